-- SP frames and Griddle's request and reply, as services/sp.py documents them byte for byte.

local bit = require "bit"
local band, bor, rshift = bit.band, bit.bor, bit.rshift
local byte, char = string.byte, string.char

local M = {
    HELLO_REQ = "\0SP\0\0\48\0\0",
    HELLO_REP = "\0SP\0\0\49\0\0",
    GET = 1, RANGE = 2, TRANSACT = 3, PING = 4,
    OK = 0, NOT_FOUND = 1, CONFLICT = 2, EXPIRED = 3, UNAVAILABLE = 4,
    INVALID = 5, TOO_LARGE = 6, UNSUPPORTED = 7, FAILED = 8, FULL = 9,
    VERSION_BYTES = 10,
    -- SP length, request ID and the fixed part of our reply: what every answer begins with
    REPLY_FIXED_BYTES = 8 + 4 + 4,
}

local MAGIC, VERSION, LEAVING = 0x47, 1, 0x80
local SP_HEADER_BYTES, REQUEST_FIXED_BYTES = 4, 10

-- A whole frame: SP length, request ID (31 bits of `id`), our header, body. Lengths of `release` and `variants` are
-- bounded where they are made: 255 and 65535 bytes.
function M.request(id, operation, budget_ms, release, variants, body)
    local length = SP_HEADER_BYTES + REQUEST_FIXED_BYTES + #release + #variants + #body
    return char(0, 0, 0, 0, band(rshift(length, 24), 255), band(rshift(length, 16), 255),
                band(rshift(length, 8), 255), band(length, 255),
                bor(band(rshift(id, 24), 127), 128), band(rshift(id, 16), 255),
                band(rshift(id, 8), 255), band(id, 255),
                MAGIC, VERSION, operation, 0, rshift(budget_ms, 8), band(budget_ms, 255),
                #release, 0, rshift(#variants, 8), band(#variants, 255))
           .. release .. variants .. body
end

-- From the REPLY_FIXED_BYTES at `first` in `data`, with which a reply begins: the number of the request that it
-- answers, its status, whether the worker is leaving, the length of the release, and how many bytes follow in all. On
-- anything else: nil and what is wrong.
function M.reply(data, first, limit)
    local h1, h2, h3, h4, l1, l2, l3, l4, i1, i2, i3, i4, magic, _, status, release_length =
        byte(data, first, first + 15)
    if h1 + h2 + h3 + h4 > 0 or l1 > 127 then
        return nil, "reply is too long"
    end
    local rest = l1 * 16777216 + l2 * 65536 + l3 * 256 + l4 - 8
    if rest < release_length or rest > limit then
        return nil, "length of the reply is wrong"
    end
    if i1 < 128 or magic ~= MAGIC then
        return nil, "not a Griddle reply"
    end
    local id = band(i1, 127) * 16777216 + i2 * 65536 + i3 * 256 + i4
    return id, band(status, 127), status >= LEAVING, release_length, rest
end

return M
