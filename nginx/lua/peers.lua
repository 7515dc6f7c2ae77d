-- Those whom this nginx worker asks, store workers and fronts: which of them answer, and which two to choose from.
--
-- A peer that refused, broke or never answered a request is not asked by requests any more but by a timer, until it
-- answers. Where it was silent, its host may be gone: that is looked at once, so that its other peers need not be
-- found out one by one, by a request each.

local tcp, timer_at, timer_every = ngx.socket.tcp, ngx.timer.at, ngx.timer.every
local find, ipairs, pcall, random = string.find, ipairs, pcall, math.random

local M = {}

local PROBE_SECONDS = 0.25
local CONNECT_MS = 100 -- on the cluster's own network; longer means that nobody is there

local hosts = {}

-- `probe`: a function that asks a peer; whether it answers, or what went wrong.
function M.pool(probe)
    return { all = {}, up = {}, up_count = 0, probe = probe }
end

local function host_of(address)
    for _, host in ipairs(hosts) do
        if host.address == address then
            return host
        end
    end
    local host = { address = address, peers = {}, at = 0, probing = false, sought = false }
    hosts[#hosts + 1] = host
    return host
end

local function refresh(pool)
    local up = {}
    for _, peer in ipairs(pool.all) do
        if peer.up then
            up[#up + 1] = peer
        end
    end
    pool.up, pool.up_count = up, #up
end

function M.add(pool, address, port, release)
    local host = host_of(address)
    local peer = {
        address = address, port = port, name = address .. ":" .. port, release = release, in_flight = 0,
        host = host, pool = pool, up = true,
    }
    pool.all[#pool.all + 1] = peer
    host.peers[#host.peers + 1] = peer
    refresh(pool)
end

local function set(peer, up, why)
    if peer.up ~= up then
        peer.up = up
        refresh(peer.pool)
        if ngx.worker.id() == 0 then -- one that speaks for all
            ngx.log(ngx.WARN, peer.name, up and " answers again" or " is left alone: " .. why)
        end
    end
end

-- Whether somebody is there who refuses; else there is silence.
local function refused(problem)
    return find(problem, "refused", 1, true)
end

-- Is the host of a silent peer there at all? Any of its others can tell, even one that is busy: its kernel answers.
local function seek(premature, host)
    host.sought = false
    if premature then
        return
    end
    for _, peer in ipairs(host.peers) do
        if peer.up then
            local socket = tcp()
            socket:settimeouts(CONNECT_MS, CONNECT_MS, CONNECT_MS)
            local ok, problem = socket:connect(peer.address, peer.port)
            if ok then
                socket:close()
            elseif not refused(problem) then
                for _, other in ipairs(host.peers) do
                    set(other, false, "its host is away")
                end
            end
            return
        end
    end
end

-- `problem`: what went wrong with a request; nil where the peer itself has said that it leaves.
function M.failed(peer, problem)
    if not peer.up then
        return
    end
    set(peer, false, problem or "it leaves")
    local host = peer.host
    if problem and not refused(problem) and not host.sought then
        host.sought = timer_at(0, seek, host)
    end
end

function M.answered(peer)
    set(peer, true)
end

-- Asks those of a host that are left alone. After silence the others wait for the next round, which begins behind it.
local function probe(host)
    local peers = host.peers
    for _ = 1, #peers do
        host.at = host.at % #peers + 1
        local peer = peers[host.at]
        if not peer.up then
            local ran, answers, problem = pcall(peer.pool.probe, peer)
            if ran and answers then
                set(peer, true)
            elseif not ran or not refused(problem) then
                break
            end
        end
    end
    host.probing = false
end

local function look(premature)
    if premature then
        return
    end
    for _, host in ipairs(hosts) do
        if not host.probing then
            host.probing = true
            ngx.thread.spawn(probe, host)
        end
    end
end

-- Workers of nginx are forked: each needs random numbers of its own.
function M.init_worker()
    math.randomseed(ngx.now() * 1000 + ngx.worker.pid() * 7919)
    local ok, problem = timer_every(PROBE_SECONDS, look)
    if not ok then
        ngx.log(ngx.ERR, "peers: no timer: ", problem)
    end
end

-- Two of those that answer, by chance, of which the caller takes the less busy one; of all, where none answers. The
-- same one twice where there is no other.
function M.two(pool)
    local list, count = pool.up, pool.up_count
    if count == 0 then
        list, count = pool.all, #pool.all
    end
    if count == 1 then
        return list[1], list[1]
    end
    local i, j = random(count), random(count - 1)
    if j >= i then
        j = j + 1
    end
    return list[i], list[j]
end

-- One to ask after `tried` (a list): on a host that was not asked yet, else at least another one, if there is any.
function M.another(pool, tried)
    local list = pool.up_count > 0 and pool.up or pool.all
    local start, second = random(#list), nil
    for step = 0, #list - 1 do
        local peer = list[(start + step - 1) % #list + 1]
        local same_peer, same_host = false, false
        for _, before in ipairs(tried) do
            same_peer = same_peer or before == peer
            same_host = same_host or before.host == peer.host
        end
        if not same_host then
            return peer
        end
        second = second or not same_peer and peer
    end
    return second or list[start]
end

return M
