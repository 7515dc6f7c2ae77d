-- RFC 9457 problem documents, for what the proxy answers itself.

local cjson = require "cjson.safe"
local settings = require "settings"

local M = {}

local TITLES = {
    [400] = "Bad Request", [403] = "Forbidden", [404] = "Not Found", [405] = "Method Not Allowed",
    [408] = "Request Timeout", [411] = "Length Required", [413] = "Content Too Large", [414] = "URI Too Long",
    [431] = "Request Header Fields Too Large", [500] = "Internal Server Error", [502] = "Bad Gateway",
    [503] = "Service Unavailable", [504] = "Gateway Timeout",
}
local RETRY_SECONDS = 1

-- What nginx itself refuses is the fault of this part of the request.
local FIELDS = { [411] = "Content-Length", [413] = "body", [414] = "path", [431] = "headers" }

-- Ends the request with a problem document. `lane` and `release`: who is answering, by default this proxy for the
-- cluster's release. `field`: what is wrong with the request.
function M.send(status, detail, lane, release, field)
    local title = TITLES[status] or "Error"
    local body = cjson.encode({
        type = "about:blank", title = title, status = status, detail = detail, field = field,
    }) .. "\n"
    ngx.status = status
    local header = ngx.header
    header["Content-Type"] = "application/problem+json"
    header["Content-Length"] = #body
    header["X-Lane"] = lane
    header["X-Release"] = release or settings.release
    if status == 503 then
        header["Retry-After"] = RETRY_SECONDS
    end
    ngx.print(body)
    return ngx.exit(ngx.HTTP_OK)
end

-- For error_page, which has set the status.
function M.from_nginx()
    local status = ngx.status
    if status == 502 or status == 504 then
        status = 503 -- no front answered: to the client that is the same, and it may try again
    elseif not TITLES[status] then
        status = status >= 500 and 500 or 400
    end
    local detail = status == 503 and "no front worker answered" or nil
    return M.send(status, detail, ngx.var.upstream_addr and "wsgi" or "proxy", nil, FIELDS[status])
end

return M
