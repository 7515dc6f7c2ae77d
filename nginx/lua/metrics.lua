-- Reads and writes by latency and outcome, counted in this nginx worker and flushed each second to the host's StatsD
-- daemon, which sums over the workers. Names and labels: docs/metrics.md.
--
-- Counting touches Lua tables only. What is flushed while no daemon listens is lost, on purpose: sent later, at once,
-- it would look like a burst that never was.

local settings = require "settings"

local format, gsub, match, sub = string.format, string.gsub, string.match, string.sub
local concat = table.concat
local now, start_time, update_time = ngx.now, ngx.req.start_time, ngx.update_time

local M = {}

local BOUNDS_MS = { 1, 2.5, 5, 10, 25, 50, 100, 250, 1000 } -- services/metrics.py has the same
local LES = { "1", "2.5", "5", "10", "25", "50", "100", "250", "1000", "+Inf" }
local BUCKETS = #LES
local FLUSH_SECONDS = 1
local SERIES_MOST = 64 -- what is beyond counts as "other": labels come from outside
local LABEL_BYTES = 40 -- collectd cuts names at 127
local DATAGRAM_BYTES = 1400 -- one Ethernet frame
local PLAIN = { "errors", "refused" }
local COUNTED = "^(%u+) /v1/profiles/" -- the line as it came: error_page changes method and URI

local series, count = {}, 0
local last, last_release, last_variant -- of read_direct

local function clean(label)
    return sub(gsub(label or "-", "[^%w_.-]", "_"), 1, LABEL_BYTES)
end

-- The numbers of one kind (read or write), lane, release and variant: buckets in [1] to [BUCKETS], then sums. They
-- are never reset; `sent` holds what of them was flushed.
local function find_series(kind, lane, release, variant)
    local key = kind .. lane .. " " .. (release or "-") .. " " .. (variant or "-")
    local found = series[key]
    if found then
        return found
    end
    if count >= SERIES_MOST then
        release, variant = "other", "other"
        key = kind .. lane .. " other other"
        if series[key] then
            return series[key]
        end
    end
    found = {
        prefix = "griddle." .. kind .. "_",
        labels = format(";lane=%s;release=%s;variant=%s", lane, clean(release), clean(variant)),
        new = true, sum = 0, errors = 0, refused = 0, shed = {},
        sent = { sum = 0, errors = 0, refused = 0, shed = {} },
    }
    for i = 1, BUCKETS do
        found[i], found.sent[i] = 0, 0
    end
    series[key] = found
    count = count + 1
    return found
end

local function observe(found)
    update_time() -- nginx's clock stands still while it handles what has come in
    local ms = (now() - start_time()) * 1000
    local i = 1
    while i < BUCKETS and ms > BOUNDS_MS[i] do
        i = i + 1
    end
    found[i] = found[i] + 1
    found.sum = found.sum + ms
end

-- A read that the direct lane has just answered.
function M.read_direct(release, variant)
    if release ~= last_release or variant ~= last_variant then
        last, last_release, last_variant = find_series("read", "direct", release, variant), release, variant
    end
    observe(last)
end

-- Any other answer; what is not below /v1/profiles/ is not counted. `reason`: why a 503 is one.
function M.answered(lane, status, release, variant, reason)
    local method = match(ngx.var.request or "", COUNTED)
    if not method then
        return
    end
    local found = find_series((method == "GET" or method == "HEAD") and "read" or "write", lane, release, variant)
    if status < 400 or status == 404 then
        observe(found)
    elseif status < 500 then
        found.refused = found.refused + 1
    elseif status == 503 then
        reason = reason or "front"
        found.shed[reason] = (found.shed[reason] or 0) + 1
    else
        found.errors = found.errors + 1
    end
end

-- For log_by_lua where the front answers.
function M.from_front()
    M.answered("wsgi", ngx.status, ngx.var.release)
end

-- The lines of what is new in one series since it was flushed last. The store sees growth between two totals, so the
-- first one has to be 0: what was counted by then goes with the next flush.
local function lines_of(found, lines)
    local sent, prefix, labels, new = found.sent, found.prefix, found.labels, found.new
    found.new = nil
    local total = 0
    for i = 1, BUCKETS do
        if not new then
            total = total + found[i] - sent[i]
            sent[i] = found[i]
        end
        if new or total > 0 then
            lines[#lines + 1] = format("%sms_bucket%s;le=%s:%d|c", prefix, labels, LES[i], total)
        end
    end
    if new or total > 0 then
        local sum = new and 0 or found.sum - sent.sum
        sent.sum = sent.sum + sum
        lines[#lines + 1] = format("%sms_count%s:%d|c", prefix, labels, total)
        lines[#lines + 1] = format("%sms_sum%s:%.3f|c", prefix, labels, sum)
    end
    for _, name in ipairs(PLAIN) do
        if new or found[name] > sent[name] then
            local more = new and 0 or found[name] - sent[name]
            sent[name] = sent[name] + more
            lines[#lines + 1] = format("%s%s%s:%d|c", prefix, name, labels, more)
        end
    end
    for reason, shed in pairs(found.shed) do
        local before = sent.shed[reason]
        if shed ~= before then
            sent.shed[reason] = before and shed or 0
            lines[#lines + 1] = format("%sshed%s;reason=%s:%d|c", prefix, labels, reason, before and shed - before or 0)
        end
    end
end

-- Datagrams of whole lines.
function M.datagrams()
    local lines = { "griddle.proxy.worker;worker=" .. ngx.worker.id() .. ":1|g" }
    for _, found in pairs(series) do
        lines_of(found, lines)
    end
    local datagrams, first, bytes = {}, 1, 0
    for i, line in ipairs(lines) do
        if bytes + #line > DATAGRAM_BYTES then
            datagrams[#datagrams + 1] = concat(lines, "\n", first, i - 1)
            first, bytes = i, 0
        end
        bytes = bytes + #line + 1
    end
    datagrams[#datagrams + 1] = concat(lines, "\n", first)
    return datagrams
end

-- Also called when this worker is told to leave: what it answers from then on is not counted.
local function flush(leaving)
    local socket = ngx.socket.udp()
    if socket:setpeername(settings.statsd_host, settings.statsd_port) then
        for _ = 1, leaving and 2 or 1 do -- twice: what is new goes with the second
            for _, datagram in ipairs(M.datagrams()) do
                socket:send(datagram)
            end
        end
        socket:close()
    end
end

function M.init_worker()
    ngx.timer.every(FLUSH_SECONDS, flush)
end

return M
