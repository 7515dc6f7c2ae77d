-- What the agent's file says at the moment (services/agent.py). A timer looks; requests read `wait_ms`.

local cjson = require "cjson.safe"
local settings = require "settings"

local M = {
    wait_ms = 0, -- how long a request may wait for the store; 0 but while an operation on it is announced
    operation = nil, -- when that operation began
}

local LOOK_SECONDS = 0.2
local WAIT_LIMIT_MS = 10000
local OPERATION = "operations/current"

local last

-- wait_ms and operation, as the file's text says.
function M.read(text)
    local data = text and cjson.decode(text)
    local operation = type(data) == "table" and type(data.keys) == "table" and data.keys[OPERATION]
    if type(operation) ~= "table" then
        return 0
    end
    return math.max(0, math.min(tonumber(operation.wait_ms) or 0, WAIT_LIMIT_MS)), tostring(operation.started)
end

-- The file is in memory and small; it is replaced whole, so what is read is never half of it.
local function look()
    local file = io.open(settings.control, "r")
    local text = file and file:read("*a")
    if file then
        file:close()
    end
    if text ~= last then
        last = text
        M.wait_ms, M.operation = M.read(text)
    end
end

-- Where reads by the WSGI lane go: nginx's time limits are constants, so there is a location for each.
function M.front_read()
    return M.wait_ms > 0 and "@front_patient" or "@front_read"
end

function M.init_worker()
    look()
    local ok, problem = ngx.timer.every(LOOK_SECONDS, look)
    if not ok then
        ngx.log(ngx.ERR, "control: no timer: ", problem)
    end
end

return M
