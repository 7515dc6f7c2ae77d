-- /etc/griddle/griddle.json, read once when nginx starts or reloads. services/config.py documents and checks it.

local cjson = require "cjson.safe"

local M = {}

-- Raises, so that `nginx -t` refuses a file that cannot be used.
function M.load(path)
    local file, problem = io.open(path, "r")
    if not file then
        error("griddle: " .. problem, 0)
    end
    local data
    data, problem = cjson.decode(file:read("*a"))
    file:close()
    if not data then
        error("griddle: " .. path .. ": " .. problem, 0)
    end
    local proxy, statsd = data.proxy or {}, data.statsd or {}
    M.statsd_host, M.statsd_port = statsd.host or "127.0.0.1", statsd.port or 8125
    M.lane = proxy.lane or "direct"
    M.lane_override = proxy.lane_override or false
    M.deadline_ms = proxy.deadline_ms or 250
    M.waiting_limit = proxy.waiting_limit or 1024
    M.control = proxy.control or "/run/griddle/control.json"
    M.upstreams = proxy.upstreams or {}
    if #M.upstreams == 0 then
        error("griddle: " .. path .. ": proxy.upstreams is empty", 0)
    end
    for _, upstream in ipairs(M.upstreams) do
        for _, key in ipairs({ "store_ports", "front_ports" }) do
            if not upstream[key] or #upstream[key] == 0 then
                error("griddle: " .. path .. ": proxy.upstreams: " .. upstream.address .. " has no " .. key, 0)
            end
        end
    end
    -- what answers name that no release had a part in
    M.release = M.upstreams[1].release
end

return M
