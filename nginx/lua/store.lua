-- Asks a store worker, the better of two by this nginx worker's requests in flight, and once more another one if the
-- first fails.

local control = require "control"
local link = require "link"
local peers = require "peers"
local settings = require "settings"
local sp = require "sp"

local now, sleep = ngx.now, ngx.sleep
local max, floor = math.max, math.floor

local M = {}

local FIRST_SHARE = 0.6 -- of the deadline, so that there is time left for another worker
local LEFT_MS_MIN = 5 -- with less left, asking again is of no use
local AGAIN_SECONDS = 0.05
local PROBE_MS = 500 -- the engine may be slow, and a store worker answers then, too
-- Retries may be a tenth of the requests, with some in hand: a failing store is not asked twice by everyone.
local RETRY_SHARE, RETRIES_IN_HAND = 0.1, 20

local waiting = 0 -- requests of this nginx worker that may take longer than usual
local retries = RETRIES_IN_HAND

local function probe(peer)
    local status, problem, _, leaving = link.ask(peer, sp.PING, PROBE_MS, "", "", "")
    return status and not leaving, status and "it leaves" or problem
end

local workers = peers.pool(probe)

function M.init()
    for _, upstream in ipairs(settings.upstreams) do
        for _, port in ipairs(upstream.store_ports) do
            peers.add(workers, upstream.address, port, upstream.release)
        end
    end
end

local function pick()
    local one, other = peers.two(workers)
    return other.in_flight < one.in_flight and other or one
end

local function ask_counted(peer, operation, limit_ms, release, variants, key)
    peer.in_flight = peer.in_flight + 1
    local status, answered_by, body, leaving = link.ask(peer, operation, limit_ms, release, variants, key)
    peer.in_flight = peer.in_flight - 1
    if not status or leaving then
        peers.failed(peer, not status and answered_by or nil)
    elseif not peer.up then
        peers.answered(peer)
    end
    return status, answered_by, body
end

local function is_answer(status)
    return status and status ~= sp.UNAVAILABLE and status ~= sp.EXPIRED and status ~= sp.UNSUPPORTED
end

-- What nobody has answered may always be asked of one who answers others; for all else there is the budget.
local function may_ask_again(status)
    if not status and workers.up_count > 0 then
        return true
    end
    if retries < 1 then
        return false
    end
    retries = retries - 1
    return true
end

-- Returns what M.read returns.
local function read_within(deadline_ms, operation, key, release, variants)
    local deadline = now() + deadline_ms / 1000
    if retries < RETRIES_IN_HAND then
        retries = retries + RETRY_SHARE
    end
    local peer = pick()
    local limit_ms = max(1, floor(deadline_ms * FIRST_SHARE))
    local status, answered_by, body = ask_counted(peer, operation, limit_ms, release, variants, key)
    if is_answer(status) then
        return status, answered_by, body
    end
    local left_ms = floor((deadline - now()) * 1000)
    if left_ms >= LEFT_MS_MIN and may_ask_again(status) then
        peer = peers.another(workers, { peer })
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
    return nil, peer.release, peer.name .. ": " .. answered_by
end

-- While an operation on the store is announced: asks again and again until the longer time is over.
local function read_patiently(wait_ms, ...)
    local deadline = now() + wait_ms / 1000
    local left_ms = wait_ms
    local status, answered_by, body
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
