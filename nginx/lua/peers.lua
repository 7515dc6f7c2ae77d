-- The store workers, and which one to ask: the better of two random ones by this nginx worker's requests in flight.

local settings = require "settings"

local now, random = ngx.now, math.random

local M = {}

-- A worker that refused or broke a connection is left alone for this long; then one request tries it again.
local REST_SECONDS = 1
-- Retries may be a tenth of the requests, with some in hand: a failing store is not asked twice by everyone.
local RETRY_SHARE, RETRIES_IN_HAND = 0.1, 20

local peers, count = {}, 0
local retries = RETRIES_IN_HAND

function M.init()
    peers, count = {}, 0
    for _, upstream in ipairs(settings.upstreams) do
        for _, port in ipairs(upstream.store_ports) do
            count = count + 1
            peers[count] = {
                address = upstream.address, port = port, release = upstream.release,
                index = count, in_flight = 0, resting_until = 0,
            }
        end
    end
end

-- Workers of nginx are forked: each needs random numbers of its own.
function M.init_worker()
    math.randomseed(ngx.now() * 1000 + ngx.worker.pid() * 7919)
end

local function first_awake(except)
    local at, start = now(), random(count)
    for step = 0, count - 1 do
        local peer = peers[(start + step - 1) % count + 1]
        if peer ~= except and peer.resting_until <= at then
            return peer
        end
    end
end

-- A peer other than `except`, if there is another. Resting ones only where all are.
function M.pick(except)
    if count == 1 then
        return peers[1]
    end
    local i, j = random(count), random(count - 1)
    if j >= i then
        j = j + 1
    end
    local one, other = peers[i], peers[j]
    if other.in_flight < one.in_flight then
        one, other = other, one
    end
    if one == except then
        one = other
    end
    if one.resting_until == 0 then
        return one
    end
    local at = now()
    if one.resting_until > at then
        one = first_awake(except) or one
    end
    if one.resting_until ~= 0 and one.resting_until <= at then
        one.resting_until = at + REST_SECONDS -- this request tries it; the others wait for what comes of it
    end
    return one
end

function M.failed(peer)
    peer.resting_until = now() + REST_SECONDS
end

function M.answered(peer)
    peer.resting_until = 0
end

-- Called once for each request: what retries are paid from.
function M.earn_retry()
    if retries < RETRIES_IN_HAND then
        retries = retries + RETRY_SHARE
    end
end

function M.spend_retry()
    if retries < 1 then
        return false
    end
    retries = retries - 1
    return true
end

return M
