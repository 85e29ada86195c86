-- serving.lua: what test_cameras.py asks of every kit that serves, with the one for LuaJIT.
local bridge = require 'iblbridge'
local rig = bridge.open('rig0', 'program')
local scenes = {}

io.stdout:setvbuf('line')

local function say(value)
    print(bridge.encode(value))
end

local function linger()
    while true do rig:next_event(1000) end
end

function scenes.show()
    local before = bridge.clock_ns()
    rig:serve('cameras')
    for command in rig:commands() do
        local shown = {}
        for _, key in ipairs({ 'service', 'master', 'message', 'args', 'timeout_ms' }) do shown[key] = command[key] end
        shown.stamps = before < command.time and command.time <= bridge.clock_ns() and command.wall:find('^20') ~= nil
        say(shown)
        command:answer({ file = 'é.avi' }, { status = 'CONNECTED' })
    end
end

function scenes.leave()
    local taken = {}
    rig:serve('cameras')
    for command in rig:commands() do
        taken[#taken + 1] = command.message
        if #taken > 1 then
            command:answer()
            say(taken)
        end
    end
end

function scenes.attempt()
    rig:serve()
    for command in rig:commands() do
        local code = command:attempt(function(asked)
            if asked.message == 'EXPSTART' then error('the lens is gone 🐭', 0) end
            return 5
        end)
        say({ command.error or '', code })
    end
end

-- Lua does not tell a loop that it was left; who serves no more has nothing in hand.
function scenes.throw()
    rig:serve('cameras')
    local _, why = pcall(function()
        for command in rig:commands() do error('the lens is gone', 0) end
    end)
    rig:serve('cameras', 0)
    say(why)
    linger()
end

function scenes.late()
    rig:serve('cameras')
    say('serving')
    for command in rig:commands() do
        local began = bridge.clock_ns()
        while command.message == 'EXPSTART' and bridge.clock_ns() < began + 5e8 do end
        say(command:answer())
    end
end

function scenes.busy()
    rig:serve('cameras')
    for command in rig:commands() do
        say(command.message)
        if command.message == 'EXPSTART' then
            assert(not command:interrupted())
            assert(command:interrupted(60000) == 'An EXPINTERRUPT overtook this EXPSTART.' and command:interrupted())
            say('interrupted')
        end
        command:answer()
    end
end

function scenes.wrong()
    rig:serve('cameras', 'EXPSTART', 4)
    for command in rig:commands() do
        local results = {}
        for i, call in ipairs({
            function() command:answer(0 / 0) end, function() command:answer(print) end, function() command.answer(5) end,
            function() command:answer(1, { state = 5 }) end, function() command:answer(1, { status = 'RUNS' }) end,
            function() command:answer(1, { status = 5 }) end, function() command:answer(('x'):rep(70000)) end,
            function() command:fail() end, function() command:fail('a\0b') end, function() rig:tell('EXPSTART') end,
            function() rig:tell('EXPSTATUS') end, function() rig:tell('NOTHING') end, function() rig:serve('ephys') end,
            function() rig:serve('cameras', 'START') end, function() rig:serve(5) end, function() rig:serve('cameras', 'PING') end,
            function() rig:next_command(-1) end, function() command:interrupted('x') end, function() rig.commands() end,
        }) do
            results[i] = not pcall(call)
        end
        command:answer({ done = true })
        results[#results + 1] = not pcall(command.answer, command)
        say(#results)
        say(results)
    end
end

function scenes.stop()
    rig:serve('cameras')
    for command in rig:commands() do
        command:answer()
        rig:serve('cameras', 0)
        say('stopped')
        linger()
    end
end

scenes[arg[1]]()
