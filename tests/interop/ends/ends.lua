-- ends.lua: what test_ends.py asks of every client, with the one for LuaJIT.
local bridge = require 'iblbridge'
bridge.open('rig0', 'closed'):close()
bridge.open('rig0', 'abandoned'):abandon()
bridge.open('rig0', 'forgotten')
collectgarbage()
collectgarbage()
left = bridge.open('rig0', 'left')
os.exit(0)
