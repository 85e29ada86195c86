--- camera.lua: a simulated camera that masters command: your program as a service, in LuaJIT.
--
--     luajit camera.lua SEGMENT [SERVICE [WARM_UP_S [DIES_AFTER_S]]]
--
-- EXPINIT warms it up, EXPSTART begins a file, EXPEND ends it and says how many frames are in it, EXPINTERRUPT stops it
-- at once, also while it warms up. With DIES_AFTER_S it dies in the middle of a recording, and says so. Ctrl-C ends it.
-- README.md tells how to run it.

local bridge = require 'iblbridge'

local FRAME_MS = 10
local LOOK_MS = 50 -- how often it looks after its recording

io.stdout:setvbuf('line')

local segment, service, warm_up, dies_after = arg[1], arg[2], tonumber(arg[3] or 0.1), tonumber(arg[4] or 0)
if not segment or not warm_up or not dies_after or arg[5] then
    io.stderr:write('usage: luajit camera.lua SEGMENT [SERVICE [WARM_UP_S [DIES_AFTER_S]]]\n')
    os.exit(2)
end

local camera = { is_warm = false, frames = 0, began = nil }

-- Counts what was recorded since it began, and whether that was too much for it.
local function look(rig)
    if not camera.began then return end
    local ms = (bridge.clock_ns() - camera.began) / 1e6
    camera.frames = math.floor(ms / FRAME_MS)
    if dies_after > 0 and ms > dies_after * 1000 then
        camera.began, camera.is_warm = nil, false
        rig:tell('EXPINTERRUPT', { why = 'The camera died.', frames = camera.frames })
    end
end

-- What masters may ask of it: what it returns is the answer, and what it raises they are told.
local function obey(command)
    if command.message == 'EXPINIT' then
        local why = command:interrupted(warm_up * 1000) -- waits
        if why then error(why, 0) end
        camera.is_warm = true
    elseif command.message == 'EXPSTART' then
        if not camera.is_warm then error('The camera is cold. Send EXPINIT first.', 0) end
        camera.frames, camera.began = 0, bridge.clock_ns()
        return { file = tostring(command.args[1]) .. '.avi' }
    else -- EXPEND, EXPINTERRUPT, EXPCLEANUP
        camera.began = nil
        return { frames = camera.frames }
    end
end

-- What became of a command.
local function outcome(command)
    if command.code == bridge.codes.E_LATE then return 'too late, its master was told that it failed' end
    return command.error and 'failed, ' .. tostring(command.error) or 'done'
end

local function serve(rig)
    rig:serve(service)
    print(('serving %s at %s'):format(service or 'the listener', segment))
    while true do
        local command = rig:next_command(LOOK_MS)
        look(rig)
        if command then
            print(('%s from %s'):format(command.message, command.master))
            command:attempt(obey)
            print(('%s: %s'):format(command.message, outcome(command)))
        end
    end
end

local opened, rig = pcall(bridge.open, segment, 'camera')
if not opened then
    io.stderr:write(tostring(rig), '\n')
    os.exit(1)
end
local _, why = pcall(serve, rig)
rig:close()
if tostring(why):find('interrupted!$') then os.exit(0) end -- by Ctrl-C
io.stderr:write(tostring(why), '\n')
os.exit(1)
