-- Asks a store worker: one SP request over a pooled connection, once more on another worker if the first fails.

local control = require "control"
local peers = require "peers"
local settings = require "settings"
local sp = require "sp"

local tcp, now, sleep = ngx.socket.tcp, ngx.now, ngx.sleep
local max, min, floor = math.max, math.min, math.floor

local M = {}

local KEEPALIVE_MS = 60000
local CONNECT_MS = 50 -- on the cluster's own network; longer means that the host is gone
local FIRST_SHARE = 0.6 -- of the deadline, so that there is time left for another worker
local LEFT_MS_MIN = 5 -- with less left, asking again is of no use
local REPLY_LIMIT_BYTES = 1048576 -- far above the largest value: a longer reply is none

local AGAIN_SECONDS = 0.05

local pool_options
local id = 0
local waiting = 0 -- requests of this nginx worker that may take longer than usual

function M.init()
    pool_options = { pool_size = settings.pool_size }
end

-- status, release, body, leaving; or nil and what went wrong. Never leaves an unfinished connection in the pool.
local function ask(peer, operation, limit_ms, release, variants, key)
    local socket = tcp()
    socket:settimeouts(min(CONNECT_MS, limit_ms), limit_ms, limit_ms)
    local ok, problem = socket:connect(peer.address, peer.port, pool_options)
    if not ok then
        return nil, "connect: " .. problem
    end
    id = id % 0x7fffffff + 1
    local request_id = id
    local frame = sp.request(request_id, operation, limit_ms, release, variants, key)
    local fresh = socket:getreusedtimes() == 0
    ok, problem = socket:send(fresh and sp.HELLO_REQ .. frame or frame)
    if not ok then
        return nil, "send: " .. problem
    end
    local head
    if fresh then
        head, problem = socket:receive(8)
        if head ~= sp.HELLO_REP then
            socket:close()
            return nil, problem or "not an SP REP socket"
        end
    end
    head, problem = socket:receive(sp.REPLY_FIXED_BYTES)
    if not head then
        socket:close()
        return nil, "receive: " .. problem
    end
    local status, leaving, release_length, length = sp.reply(head, request_id, REPLY_LIMIT_BYTES)
    if not status then
        socket:close()
        return nil, leaving
    end
    local rest = ""
    if length > 0 then
        rest, problem = socket:receive(length)
        if not rest then
            socket:close()
            return nil, "receive: " .. problem
        end
    end
    if leaving then
        socket:close()
    else
        socket:setkeepalive(KEEPALIVE_MS, settings.pool_size)
    end
    return status, rest:sub(1, release_length), rest:sub(release_length + 1), leaving
end

local function ask_counted(peer, operation, limit_ms, release, variants, key)
    peer.in_flight = peer.in_flight + 1
    local status, answered_by, body, leaving = ask(peer, operation, limit_ms, release, variants, key)
    peer.in_flight = peer.in_flight - 1
    if not status or leaving then
        peers.failed(peer)
    elseif peer.resting_until ~= 0 then
        peers.answered(peer)
    end
    return status, answered_by, body
end

local function is_answer(status)
    return status and status ~= sp.UNAVAILABLE and status ~= sp.EXPIRED and status ~= sp.UNSUPPORTED
end

-- Returns what M.read returns.
local function read_within(deadline_ms, operation, key, release, variants)
    local deadline = now() + deadline_ms / 1000
    peers.earn_retry()
    local peer = peers.pick(nil)
    local limit_ms = max(1, floor(deadline_ms * FIRST_SHARE))
    local status, answered_by, body = ask_counted(peer, operation, limit_ms, release, variants, key)
    if is_answer(status) then
        return status, answered_by, body
    end
    local left_ms = floor((deadline - now()) * 1000)
    if left_ms >= LEFT_MS_MIN and peers.spend_retry() then
        local first = peer
        peer = peers.pick(first)
        local again, again_by, again_body = ask_counted(peer, operation, left_ms, release, variants, key)
        if again then
            return again, again_by, again_body
        end
        if not status then
            answered_by = again_by
        end
    end
    if status then
        return status, answered_by, body
    end
    return nil, peer.release, peer.address .. ":" .. peer.port .. ": " .. answered_by
end

-- While an operation on the store is announced: asks again and again until the longer time is over.
local function read_patiently(wait_ms, ...)
    local deadline = now() + wait_ms / 1000
    local left_ms, status, answered_by, body = wait_ms, nil, nil, nil
    waiting = waiting + 1
    repeat
        status, answered_by, body = read_within(left_ms, ...)
        if is_answer(status) then
            break
        end
        sleep(AGAIN_SECONDS)
        left_ms = floor((deadline - now()) * 1000)
    until left_ms < LEFT_MS_MIN
    waiting = waiting - 1
    return status, answered_by, body
end

-- A read, which may be asked twice. Returns status, release that answered, body; when no worker answered: nil, the
-- release that was asked last, what went wrong.
function M.read(...)
    local wait_ms = control.wait_ms
    if wait_ms > settings.deadline_ms and waiting < settings.waiting_limit then
        return read_patiently(wait_ms, ...)
    end
    return read_within(settings.deadline_ms, ...)
end

return M
