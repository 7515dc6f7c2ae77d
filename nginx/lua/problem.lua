-- RFC 9457 problem documents, for what the proxy answers itself.

local cjson = require "cjson.safe"
local metrics = require "metrics"
local settings = require "settings"
local sp = require "sp"

local sub = string.sub

local M = {}

local TITLES = {
    [400] = "Bad Request", [403] = "Forbidden", [404] = "Not Found", [405] = "Method Not Allowed",
    [408] = "Request Timeout", [411] = "Length Required", [412] = "Precondition Failed",
    [413] = "Content Too Large", [414] = "URI Too Long", [431] = "Request Header Fields Too Large",
    [500] = "Internal Server Error", [501] = "Not Implemented", [502] = "Bad Gateway",
    [503] = "Service Unavailable", [504] = "Gateway Timeout", [505] = "HTTP Version Not Supported",
}
local RETRY_SECONDS = 1

local STORE = {
    [sp.EXPIRED] = { 503, "the deadline has passed", "expired" },
    [sp.UNAVAILABLE] = { 503, "the store does not answer", "unavailable" },
    [sp.UNSUPPORTED] = { 503, "the store worker is of another release", "unsupported" },
    [sp.INVALID] = { 400, "the store worker refused the request" },
    [sp.TOO_LARGE] = { 400, "the store worker refused the request" },
}
-- What nginx itself refuses is the fault of this part of the request.
local FIELDS = { [411] = "Content-Length", [413] = "body", [414] = "path", [431] = "headers" }

-- Ends the request with a problem document. `lane` and `release`: who is answering, by default this proxy for the
-- cluster's release. `field`: what is wrong with the request. `reason`: why a 503 is one, for the metrics.
function M.send(status, detail, lane, release, field, reason)
    local title = TITLES[status] or "Error"
    local body = cjson.encode({
        type = "about:blank", title = title, status = status, detail = detail, field = field,
    }) .. "\n"
    ngx.status = status
    local header = ngx.header
    header["Content-Type"] = "application/problem+json"
    header["Content-Length"] = #body
    header["X-Lane"] = lane
    release = release or settings.release
    header["X-Release"] = release
    if status == 503 then
        header["Retry-After"] = RETRY_SECONDS
    end
    ngx.print(body)
    if lane ~= "proxy" then
        metrics.answered(lane, status, release, nil, reason)
    end
    return ngx.exit(ngx.HTTP_OK)
end

-- What store.read returned where that is not OK.
function M.from_store(status, release, text)
    if not status then
        ngx.log(ngx.WARN, "no store worker answered: ", text)
        return M.send(503, "no store worker answered in time", "direct", release, nil, "no_worker")
    end
    local known = STORE[status]
    if known then
        return M.send(known[1], known[2], "direct", release, nil, known[3])
    end
    ngx.log(ngx.ERR, "the store worker failed: status ", status, ": ", text)
    return M.send(500, nil, "direct", release)
end

-- For error_page, which has set the status.
function M.from_nginx()
    local status = ngx.status
    local line = ngx.var.request or "" -- as it came: error_page changes the method
    if status == 405 and (sub(line, 1, 6) == "TRACE " or sub(line, 1, 8) == "CONNECT ") then
        status = 501 -- as any other that no resource has
    elseif status == 405 then
        ngx.header["Allow"] = "GET, HEAD" -- what this proxy answers by itself
    elseif status == 502 or status == 504 then
        status = 503 -- no front answered: to the client that is the same, and it may try again
    elseif not TITLES[status] then
        status = status >= 500 and 500 or 400
    end
    local detail = status == 503 and "no front worker answered" or status == 501 and "no resource has this method"
        or nil
    return M.send(status, detail, ngx.var.upstream_addr and "wsgi" or "proxy", nil, FIELDS[status])
end

return M
