-- /v1/profiles/{id} and its feed: hot reads by the direct lane, everything else to the front.

local feed = require "feed"
local fronts = require "fronts"
local metrics = require "metrics"
local problem = require "problem"
local settings = require "settings"
local sp = require "sp"
local store = require "store"

local find, sub = string.find, string.sub
local var = ngx.var

local M = {}

local PATH_BYTES = #"/v1/profiles/"
local ID_BYTES = 64
local KEY_PREFIX = "profile/"

-- "direct" or "wsgi", for a read: the request's X-Lane where that is allowed, else the configured lane.
local function lane_of_read()
    if settings.lane_override then
        local asked = var.http_x_lane
        if asked == "direct" or asked == "wsgi" then
            return asked
        end
    end
    return settings.lane
end

function M.handle()
    if var.plain_read ~= "1" or lane_of_read() ~= "direct" then
        return fronts.pass()
    end
    local id = sub(var.uri, PATH_BYTES + 1)
    if #id > ID_BYTES or not find(id, "^%w[%w_-]*$") then
        local _, _, owner = find(id, "^(%w[%w_-]*)/feed$")
        if owner and #owner <= ID_BYTES then
            return feed.handle(owner)
        elseif find(id, "/", 1, true) then
            return fronts.pass()
        end
        return problem.send(400, "1 to 64 letters, digits, '-' and '_', beginning with a letter or digit",
                            "direct", nil, "id")
    end
    return M.read(KEY_PREFIX .. id)
end

-- Answers with the value of `key`. Its version is the entity tag, as in services/front.py; nginx itself makes a 304
-- of the answer where If-None-Match holds it.
function M.read(key)
    local status, release, record = store.read(sp.GET, key, "", "")
    if status == sp.OK then
        local etag = '"' .. ngx.encode_base64(sub(record, 1, sp.VERSION_BYTES), true) .. '"'
        local header = ngx.header
        header["X-Lane"] = "direct"
        header["X-Release"] = release
        header["ETag"] = etag
        header["Content-Length"] = #record - sp.VERSION_BYTES
        ngx.print(sub(record, sp.VERSION_BYTES + 1))
        return metrics.read_direct(release)
    end
    if status == sp.NOT_FOUND then
        return problem.send(404, "no such profile", "direct", release)
    end
    return problem.from_store(status, release, record)
end

return M
