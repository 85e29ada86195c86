-- json.lua: for each line of standard input what bridge.decode and bridge.encode make of it, or "error" and the sentence.
local bridge = require 'iblbridge'
for line in io.lines() do
    local fine, value = pcall(bridge.decode, line)
    print(fine and bridge.encode(value) or 'error ' .. tostring(value))
    io.stdout:flush()
end
