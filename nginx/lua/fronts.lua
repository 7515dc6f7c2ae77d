-- The way to the fronts: how a request is sent there, whom it is sent to, and to whom next.

local balancer = require "ngx.balancer"
local control = require "control"
local metrics = require "metrics"
local peers = require "peers"
local problem = require "problem"
local settings = require "settings"
local waits = require "waits"

local byte, find, format, gsub, match = string.byte, string.find, string.format, string.gsub, string.match
local var = ngx.var

local M = {}

local WRITES = { POST = true, PUT = true, DELETE = true, PATCH = true, OPTIONS = true }
local TRIES_MOST = 3
local PROBE_CONNECT_MS, PROBE_MS = 100, 500 -- a front serves one request at a time, and may be busy
local PROBE = "GET /healthz HTTP/1.1\r\nHost: probe\r\nConnection: close\r\n\r\n"
local NOBODY = -3 -- nginx's NGX_BUSY: there is no upstream any more
-- Requests in flight by front, of all nginx workers: a front serves one at a time, so all have to know. A count begins
-- anew after a while: what a killed nginx worker has left in it is forgotten.
local in_flight = ngx.shared.fronts
local COUNT_SECONDS = 10

local function probe(front)
    local socket = ngx.socket.tcp()
    socket:settimeouts(PROBE_CONNECT_MS, PROBE_MS, PROBE_MS)
    local ok, seen = socket:connect(front.address, front.port)
    if not ok then
        return false, seen
    end
    ok, seen = socket:send(PROBE)
    local line
    if ok then
        line, seen = socket:receive("*l")
    end
    socket:close()
    return line and find(line, "^HTTP/1%.%d 200 ") ~= nil, seen or line
end

local fronts, by_name = peers.pool(probe), {}

function M.init()
    for _, upstream in ipairs(settings.upstreams) do
        for _, port in ipairs(upstream.front_ports) do
            peers.add(fronts, upstream.address, port, upstream.release)
        end
    end
    for _, front in ipairs(fronts.all) do
        by_name[front.name] = front
    end
end

local function escaped(character)
    return format("%%%02X", byte(character))
end

-- Sends the request on as this nginx has understood it: the path that the lane was chosen by, encoded anew, and a
-- query of ASCII. meinheld answers all else by a page of its own, and takes methods that it does not know for others.
function M.pass()
    local method = var.request_method
    local place
    if method == "GET" or method == "HEAD" then
        place = control.front_read()
    elseif WRITES[method] then
        place = "@front_write"
    else
        return problem.send(501, "no resource has this method", "proxy")
    end
    ngx.req.set_uri(var.uri, false, true)
    local query = var.args
    if query and find(query, "[\128-\255]") then
        ngx.req.set_uri_args((gsub(query, "[\128-\255]", escaped)))
    end
    return ngx.exec(place)
end

-- Whether a byte of the last attempt left for its front. nginx lists all attempts: "0, 7 : ", with nothing for the one
-- that is being made.
local function was_sent()
    return match(var.upstream_bytes_sent or "", "(%d+) : $") ~= "0"
end

-- One fewer, if it is still counted: what began before its count did, is not.
local function leave(front)
    local left = in_flight:incr(front.name, -1)
    if left and left < 0 then
        in_flight:incr(front.name, 1)
    end
end

local function pick()
    local one, other = peers.two(fronts)
    if one ~= other and (in_flight:get(other.name) or 0) < (in_flight:get(one.name) or 0) then
        return other
    end
    return one
end

-- balancer_by_lua, for each attempt. One that never left may always be made again elsewhere. One that did, once: a
-- read; and a write whose connection broke (a POST has its Idempotency-Key), but not one that is only slow, because
-- it may still be done.
function M.balance()
    local ctx = ngx.ctx
    local tried, front = ctx.tried
    if not tried then
        tried = {}
        ctx.tried = tried
        front = pick()
    else
        local last = tried[#tried]
        local _, status = balancer.get_last_failure()
        if status ~= 503 then -- which the front says itself
            peers.failed(last, status == 504 and "timeout" or "refused")
        end
        if was_sent() then
            ctx.was_sent = true
            if status == 504 and WRITES[var.request_method] then
                return ngx.exit(NOBODY)
            end
        end
        leave(last)
        front = peers.another(fronts, tried)
    end
    tried[#tried + 1] = front
    in_flight:incr(front.name, 1, 0, COUNT_SECONDS)
    if #tried < TRIES_MOST and not ctx.was_sent then
        balancer.set_more_tries(1)
    end
    local ok, seen = balancer.set_current_peer(front.address, front.port)
    if not ok then
        ngx.log(ngx.ERR, "fronts: ", front.name, ": ", seen)
    end
end

-- log_by_lua, for whatever has been sent to a front. error_page loses ngx.ctx; nginx's own variables stay.
function M.log()
    waits.log()
    local front = by_name[match(var.upstream_addr or "", "([%d.]+:%d+)[ :,]*$")]
    if not front then
        return
    end
    leave(front)
    -- of the last attempt: "-" where the client has left before its end
    local status = match(var.upstream_status or "", "(%d+)[ :]*$")
    if status == "502" or status == "504" then
        peers.failed(front, status == "504" and "timeout" or "refused")
    elseif not front.up and status then
        peers.answered(front)
    end
end

-- The same where the front has answered.
function M.log_answer()
    metrics.from_front()
    M.log()
end

return M
