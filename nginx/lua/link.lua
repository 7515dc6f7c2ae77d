-- One connection from this nginx worker to a store worker, shared by all requests: what they ask in one round of the
-- event loop is sent by one system call, and one brings the replies of a batch. With a connection for each request,
-- the kernel's part of a read cost more than nginx's and the store worker's together.
--
-- It lives in a timer, with a light thread that sends and one that receives; requests wait on a semaphore each.

local semaphore = require "ngx.semaphore"
local sp = require "sp"

local tcp, timer_at, exiting = ngx.socket.tcp, ngx.timer.at, ngx.worker.exiting
local spawn, wait = ngx.thread.spawn, ngx.thread.wait
local concat, pairs, sub = table.concat, pairs, string.sub

local M = {}

local CONNECT_MS = 50 -- on the cluster's own network; longer means that the host is gone
local SEND_MS = 1000
local LOOK_SECONDS = 0.5 -- how often an idle connection looks whether this nginx worker is to end
local READ_BYTES = 65536
local REPLY_LIMIT_BYTES = 1048576 -- far above the largest value: a longer reply is none
-- What a timer allocates is given back when it ends: now and then a connection makes way for a new one.
local QUESTIONS_MOST = 100000

local waiters = {} -- those that no request uses

-- Ends all waits on a link: each request is told what went wrong.
local function give_up(link, problem)
    link.retired, link.waiting = true, 0
    for id, waiter in pairs(link.pending) do
        link.pending[id] = nil
        waiter.problem = problem
        waiter.ready:post()
    end
end

local function write(link, socket)
    while not link.ended do
        local count = link.queued
        if count == 0 then
            link.sleeping = true
            link.wake:wait(LOOK_SECONDS)
            link.sleeping = false
        else
            link.queued = 0
            local ok, problem = socket:send(concat(link.queue, "", 1, count))
            if not ok then
                return give_up(link, "send: " .. problem)
            end
        end
    end
end

-- Hands each reply in `data` to the request that waits for it; what is left over, or nil and what is wrong.
local function deliver(link, data)
    local first, size = 1, #data
    while size - first + 1 >= sp.REPLY_FIXED_BYTES do
        local id, status, leaving, release_length, length = sp.reply(data, first, REPLY_LIMIT_BYTES)
        if not id then
            return nil, status
        end
        local body = first + sp.REPLY_FIXED_BYTES
        local behind = body + length
        if behind - 1 > size then
            break
        end
        link.answered = link.answered + 1
        local waiter = link.pending[id]
        if waiter then -- nobody waits any more for one that is late
            link.pending[id] = nil
            link.waiting = link.waiting - 1
            waiter.status, waiter.leaving = status, leaving
            waiter.release = sub(data, body, body + release_length - 1)
            waiter.body = sub(data, body + release_length, behind - 1)
            waiter.ready:post()
        end
        if leaving then
            link.retired = true
        end
        first = behind
    end
    return first > 1 and sub(data, first) or data
end

-- Until the connection has nothing to do any more; what went wrong, or nil.
local function read(link, socket)
    local rest = ""
    while not (link.waiting == 0 and (link.retired or exiting())) do
        local data, problem = socket:receiveany(READ_BYTES)
        if data then
            rest, problem = deliver(link, rest == "" and data or rest .. data)
        end
        if problem and problem ~= "timeout" then
            return problem
        end
    end
end

local function run(premature, link)
    if premature then
        return give_up(link, "this nginx worker is ending")
    end
    local socket = tcp()
    socket:settimeouts(CONNECT_MS, SEND_MS, CONNECT_MS)
    local ok, problem = socket:connect(link.address, link.port)
    if not ok then
        return give_up(link, "connect: " .. problem)
    end
    local head
    ok, problem = socket:send(sp.HELLO_REQ)
    if ok then
        head, problem = socket:receive(#sp.HELLO_REP)
    end
    if head ~= sp.HELLO_REP then
        socket:close()
        return give_up(link, problem and "hello: " .. problem or "not an SP REP socket")
    end
    socket:settimeouts(CONNECT_MS, SEND_MS, LOOK_SECONDS * 1000)
    local writer = spawn(write, link, socket)
    problem = read(link, socket)
    link.retired, link.ended = true, true
    link.wake:post()
    wait(writer)
    socket:close()
    give_up(link, "receive: " .. (problem or "the connection has ended"))
end

-- A link to a store worker, or nil and why not.
local function open(address, port)
    local link = {
        address = address, port = port, wake = semaphore.new(), queue = {}, queued = 0, pending = {},
        waiting = 0, asked = 0, answered = 0, retired = false, ended = false, sleeping = false,
    }
    local ok, problem = timer_at(0, run, link)
    if ok then
        return link
    end
    return nil, problem
end

-- Asks the store worker at peer.address:peer.port by peer.link, which it opens where there is none: status, release,
-- body, leaving; or nil and what went wrong.
function M.ask(peer, operation, limit_ms, release, variants, body)
    local link = peer.link
    if not link or link.retired then
        local problem
        link, problem = open(peer.address, peer.port)
        if not link then
            return nil, problem
        end
        peer.link = link
    end
    local id = link.asked + 1
    link.asked = id
    if id == QUESTIONS_MOST then
        link.retired = true
    end
    local count = #waiters
    local waiter = waiters[count]
    if waiter then
        waiters[count] = nil
    else
        waiter = { ready = semaphore.new() }
    end
    link.pending[id], link.waiting = waiter, link.waiting + 1
    link.queued = link.queued + 1
    link.queue[link.queued] = sp.request(id, operation, limit_ms, release, variants, body)
    if link.sleeping then
        link.sleeping = false
        link.wake:post()
    end
    local answered = link.answered
    local ok, problem = waiter.ready:wait(limit_ms / 1000)
    if not ok then -- this waiter is not used again: a reply may be on its way to it
        if link.pending[id] then
            link.pending[id] = nil
            link.waiting = link.waiting - 1
        end
        if link.answered == answered then
            link.retired = true -- it says nothing at all: the next question is asked on a new connection
        end
        return nil, problem
    end
    waiters[#waiters + 1] = waiter
    problem = waiter.problem
    if problem then
        waiter.problem = nil
        return nil, problem
    end
    return waiter.status, waiter.release, waiter.body, waiter.leaving
end

return M
