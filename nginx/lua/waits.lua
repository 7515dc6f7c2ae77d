-- What requests had to wait while an operation on the store was announced: counted for its report, by all workers of
-- this proxy. At other times it counts nothing.

local cjson = require "cjson.safe"
local control = require "control"
local settings = require "settings"

local counts = ngx.shared.waits

local M = {}

local CLIENTS = "/v1/" -- all else is asked by the cluster itself
local COUNTED = { "answered", "waited", "failed", "longest_ms" }

-- At the end of every request.
function M.log()
    if control.wait_ms == 0 or ngx.var.request_uri:sub(1, #CLIENTS) ~= CLIENTS then
        return
    end
    if counts:get("operation") ~= control.operation then
        counts:flush_all()
        counts:set("operation", control.operation)
    end
    counts:incr("answered", 1, 0)
    local took_ms = math.floor(tonumber(ngx.var.request_time) * 1000)
    if took_ms > settings.deadline_ms then
        counts:incr("waited", 1, 0)
    end
    if took_ms > (counts:get("longest_ms") or 0) then
        counts:set("longest_ms", took_ms)
    end
    if ngx.status >= 500 then
        counts:incr("failed", 1, 0)
    end
end

-- The last announced operation's counts, for the operator.
function M.show()
    local found = { operation = counts:get("operation") or cjson.null }
    for _, name in ipairs(COUNTED) do
        found[name] = counts:get(name) or 0
    end
    ngx.header["Content-Type"] = "application/json"
    ngx.say(cjson.encode(found))
end

return M
