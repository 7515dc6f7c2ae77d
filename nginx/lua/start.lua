-- What nginx.conf calls: once at start, and once in each worker.

local M = {}

function M.init(config_path)
    require("settings").load(config_path)
    require("store").init()
    require("fronts").init()
    require "control"
    require "feed"
    require "profile"
    require "problem"
    require "waits"
    require "metrics"
end

function M.init_worker()
    require("peers").init_worker()
    require("control").init_worker()
    require("metrics").init_worker()
end

return M
