--- experiment.lua: a whole experiment from LuaJIT. What an acquisition program does, without the acquisition.
--
--     luajit experiment.lua SEGMENT [YYYY-MM-DD_N_SUBJECT [CLIENT]]
--
-- Prepares and starts all services, watches for a while whether one of them gives up, asks what they do, and ends the
-- experiment. If a service fails, the others are stopped, and it says who failed and why. README.md tells how to run
-- it.

local bridge = require 'iblbridge'

local QUESTION_MS = 100 -- for a question that is not worth waiting for
local EXPERIMENT_MS = 1000 -- how long the animal works
local LOOK_MS = 200

io.stdout:setvbuf('line')

local segment, reference, client = arg[1], arg[2] or '2026-01-01_1_subject', arg[3] or 'experiment'
if not segment or arg[4] then
    io.stderr:write('usage: luajit experiment.lua SEGMENT [YYYY-MM-DD_N_SUBJECT [CLIENT]]\n')
    os.exit(2)
end

local function say(...)
    print(string.format(...))
end

-- A line for each service: what it did, or what it said.
local function show(response)
    for _, service in ipairs(response.services) do
        if service.error ~= '' then
            say('  %s: %s, %s', service.name, service.state, service.error)
        elseif response.message == 'EXPINFO' and service.status >= 0 then
            local info = type(service.data.info) == 'table' and service.data.info or {}
            say('  %s: status %d, %s', service.name, service.status, tostring(info.exp_ref or 'no experiment'))
        else
            say('  %s: %s', service.name, service.state)
        end
    end
end

-- Says what became of a command that pcall has tried. Returns whether the experiment may go on: a warning is for who
-- sits there.
local function report(name, fine, result)
    if fine then
        if result.code > 0 then -- such as W_STATUS: a service was told EXPEND, and says that it still runs
            say('%s: warning (%d): %s', name, result.code, result.error)
        else
            say('%s: done', name)
        end
        show(result)
    elseif type(result) ~= 'table' then
        error(result, 0) -- none of the bridge's: Ctrl-C
    else
        say('%s: failed (%d): %s', name, result.code, result.message)
        if result.response then show(result.response) end
    end
    return fine
end

-- Sends a command to all services and waits until each has done it.
local function tell(rig, name, ...)
    return report(name, pcall(rig.call, rig, name, ...))
end

-- Asks something that is given up if the answer takes too long.
local function ask(rig, name)
    local request = rig:send(name)
    local fine, result = pcall(rig.wait, rig, request, QUESTION_MS)
    if fine or result.code ~= bridge.codes.E_TIMEOUT then return report(name, fine, result) end
    rig:cancel(request)
    say('%s: cancelled', name)
    return true
end

-- Here the animal works; returns early if a service gives up.
local function watch(rig)
    local finish = bridge.clock_ns() + EXPERIMENT_MS * 1e6
    repeat
        local event = rig:next_event(LOOK_MS)
        if event then
            return say('event %s from %s', event.event, event.service)
        end
    until bridge.clock_ns() >= finish
end

local function experiment(rig)
    rig:subscribe('EXPINTERRUPT')
    if not tell(rig, 'EXPINIT') then return false end
    local fine = tell(rig, 'EXPSTART', reference)
    if fine then
        watch(rig)
        fine = ask(rig, 'EXPSTATUS') and tell(rig, 'EXPINFO') and tell(rig, 'EXPEND')
    end
    if not fine then -- a camera may run, even if no answer came
        tell(rig, 'EXPINTERRUPT')
        return false
    end
    return tell(rig, 'EXPCLEANUP')
end

local opened, rig, status = pcall(bridge.open, segment, client)
if not opened or status ~= 0 then -- an error, or the warning that no worker is there
    local sentence, code = opened and rig:last_error() or tostring(rig), opened and status or rig.code
    io.stderr:write(('%s (%d)\n'):format(sentence, code))
    os.exit(1)
end
local ended, result = pcall(experiment, rig)
if not ended then -- by Ctrl-C, and a camera may run
    io.stderr:write(tostring(result), '\n')
    tell(rig, 'EXPINTERRUPT')
end
rig:close()
os.exit(ended and result and 0 or 1)
