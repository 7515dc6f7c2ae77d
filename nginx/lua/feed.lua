-- GET /v1/profiles/{id}/feed by the direct lane: one range of the store, put together as services/message.py does it.

local fronts = require "fronts"
local metrics = require "metrics"
local problem = require "problem"
local sp = require "sp"
local store = require "store"

local byte, char, find, gsub, sub = string.byte, string.char, string.find, string.gsub, string.sub
local concat = table.concat

local M = {}

local LIMIT_DEFAULT, LIMIT_MOST = 20, 100
local ARGUMENTS = 2
local FROM_THE_END = 1
local TO_URL, FROM_URL = { ["+"] = "-", ["/"] = "_" }, { ["-"] = "+", ["_"] = "/" }

-- limit and before (or nil) of the query string; nothing where it is not as it should be.
local function page_asked()
    local arguments, problem_seen = ngx.req.get_uri_args(ARGUMENTS)
    if problem_seen then
        return nil
    end
    local limit, before = LIMIT_DEFAULT, nil
    for name, value in pairs(arguments) do
        if name == "limit" and type(value) == "string" and find(value, "^[1-9]%d?%d?$") then
            limit = tonumber(value)
        elseif name == "before" and type(value) == "string" and #value == 14 and find(value, "^[%w_-]*[AQgw]$") then
            before = ngx.decode_base64((gsub(value, "[-_]", FROM_URL)) .. "==")
        else
            return nil
        end
    end
    if limit > LIMIT_MOST then
        return nil
    end
    return limit, before
end

-- The JSON of a page, from the body of an OK reply to RANGE.
local function page(items, limit)
    local messages, count, at, last = {}, 0, 1, nil
    while at <= #items do
        local h, l = byte(items, at, at + 1)
        local key_length = h * 256 + l
        last = at + 2 + key_length -- just behind the key
        local a, b, c, d = byte(items, last, last + 3)
        local behind = last + 4 + a * 16777216 + b * 65536 + c * 256 + d
        count = count + 1
        messages[count] = sub(items, last + 4 + sp.VERSION_BYTES, behind - 1)
        at = behind
    end
    local next_page = "null"
    if count == limit then
        local version = sub(items, last - sp.VERSION_BYTES, last - 1)
        next_page = '"' .. gsub(ngx.encode_base64(version, true), "[+/]", TO_URL) .. '"'
    end
    return '{"items":[' .. concat(messages, ",") .. '],"next":' .. next_page .. "}"
end

-- A query that is not as it should be goes to the front, which says what is wrong with it.
function M.handle(id)
    local limit, before = page_asked()
    if not limit then
        return fronts.pass()
    end
    local first = "feed/" .. id .. "/"
    local last = before and first .. before or "feed/" .. id .. "0"
    local body = char(FROM_THE_END, 0, 0, 0, limit, 0, #first) .. first .. last
    local status, release, items = store.read(sp.RANGE, body, "", "")
    if status ~= sp.OK then
        return problem.from_store(status, release, items)
    end
    local answer = page(items, limit)
    local header = ngx.header
    header["X-Lane"] = "direct"
    header["X-Release"] = release
    header["Content-Length"] = #answer
    ngx.print(answer)
    metrics.read_direct(release)
end

return M
