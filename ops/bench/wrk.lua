-- wrk's requests: GET of a random profile. Arguments after "--": how many profiles there are, and the value of X-Lane.
-- At the end one line of JSON: what was answered, and every way in which it was not.

local requests = {}

function init(arguments)
    math.randomseed(1)
    local headers = { ["X-Lane"] = arguments[2] }
    for number = 0, tonumber(arguments[1]) - 1 do
        requests[number + 1] = wrk.format("GET", "/v1/profiles/p" .. number, headers)
    end
end

function request()
    return requests[math.random(#requests)]
end

function done(summary)
    local errors = summary.errors
    io.write(string.format(
        '{"requests": %d, "seconds": %.6f, "errors": {"wrong_status": %d, "connect": %d, "broken_connection": %d, '
        .. '"timeout": %d}}\n',
        summary.requests, summary.duration / 1e6, errors.status, errors.connect, errors.read + errors.write,
        errors.timeout))
end
