--- iblbridge.lua: start, stop and question the remote services of a rig, from LuaJIT.
--
--     local bridge = require 'iblbridge'
--     local rig = bridge.open('rig0', 'stimulus')
--     local response = rig:call('EXPSTART', '2026-01-01_1_subject')
--     for _, service in ipairs(response.services) do print(service.name, service.state) end
--     rig:close()
--
-- Messages are given by name ('EXPSTART', see bridge.messages) or number. iblbridge.h lists their arguments, the keys
-- of a response, and what each code means. The same rules hold for all functions:
--
-- - Times are milliseconds for waiting and nanoseconds of bridge.clock_ns in responses, as numbers, which are exact
--   for 104 days of uptime.
-- - `arguments` of a message: none (nil); a list, the positional arguments; or anything else, the single argument. A
--   table with keys is a JSON object, also the empty one; bridge.array {} is the empty list, bridge.null is null.
--   Text is UTF-8.
-- - `options`: { services = 'cameras,ephys' or a list of names (all if left out), timeout_ms or ttl_ms }.
-- - An error is a table: `code`, `name` ('E_PARTIAL', as in bridge.codes), `message` (the sentence; also its
--   tostring), `response` if there is one (what the good services said is not lost), `request` if that is still open:
--   wait for it again or cancel it, but do not repeat the command, for it may have started a camera.
-- - Warnings are no errors but a positive status: `status` where it is returned, response.code.

local bit = require 'bit'
local ffi = require 'ffi'

jit.off(true, true) -- a compiled loop does not see the hook by which Ctrl-C works

ffi.cdef [[
/* prototypes: begin */
int iblb_version(void);
int iblb_open(const char *segment, const char *client, int timeout_ms, int *handle);
int iblb_close(int handle);
int iblb_send(int handle, const char *services, int message, const char *args_json, int ttl_ms, int *request);
int iblb_send_msgpack(int handle, const char *services, int message, const unsigned char *args, int args_bytes, int
    ttl_ms, int *request);
int iblb_notify(int handle, const char *services, int message, const char *args_json, int ttl_ms);
int iblb_wait(int handle, int request, int timeout_ms, char *json, int capacity, int *needed);
int iblb_wait_msgpack(int handle, int request, int timeout_ms, unsigned char *bytes, int capacity, int *needed);
int iblb_call(int handle, const char *services, int message, const char *args_json, int timeout_ms, char *json, int
    capacity, int *request);
int iblb_withdraw(int handle, int request);
int iblb_cancel(int handle, int request);
int iblb_subscribe(int handle, int message_mask);
int iblb_next_event(int handle, int timeout_ms, int *message, char *json, int capacity, int *needed);
int iblb_worker_state(int handle, int *alive, int *services, int *services_up);
int iblb_error_text(int code, char *text, int capacity);
int iblb_last_error(int handle, char *text, int capacity);
int iblb_clock_ns(double *now);
/* prototypes: end */
]]

local bridge = {}

-- numbers: begin
bridge.messages = {
    EXPINIT = 1, EXPSTART = 2, EXPEND = 4, EXPCLEANUP = 8, EXPINTERRUPT = 16, EXPSTATUS = 32, EXPINFO = 64,
    ALYX = 128, PING = 4096, SERVICES = 8192, SERVICE_UP = 256, SERVICE_DOWN = 512, CLIENT_LOST = 1024,
    WORKER_RESTARTED = 2048
}
bridge.codes = {
    OK = 0, E_ARGUMENT = -8001, E_HANDLE = -8002, E_CLOSED = -8003, E_FORKED = -8004, E_NAME = -8005,
    E_HANDLES = -8006, E_NO_SEGMENT = -8010, E_SEGMENT = -8011, E_VERSION = -8012, E_STALE = -8013,
    E_PERMISSION = -8014, E_NO_SLOT = -8015, E_NAME_TAKEN = -8016, E_QUARANTINED = -8017, E_NO_WORKER = -8018,
    E_WORKER_BUSY = -8019, E_SYSTEM = -8020, E_MEMORY = -8021, E_SUPERSEDED = -8022, E_MESSAGE = -8030,
    E_SERVICE = -8031, E_UTF8 = -8032, E_JSON = -8033, E_MSGPACK = -8034, E_ARGS = -8035, E_TOO_LARGE = -8036,
    E_FULL = -8037, E_TOO_MANY = -8038, E_TIMEOUT = -8050, E_REQUEST = -8051, E_BUFFER = -8052, E_NOT_SENT = -8053,
    E_PENDING = -8054, E_CANCELLED = -8055, E_PARTIAL = -8070, E_ALL_FAILED = -8071, E_EXPIRED = -8072,
    E_ABORTED = -8073, E_OUTCOME_UNKNOWN = -8074, E_INTERNAL = -8075, W_NO_WORKER = 5001, W_OPTIONAL = 5002,
    W_ACCEPTED = 5003, W_SHORTENED = 5004
}
-- numbers: end

local SLICE_MS = 200 -- the longest wait inside of the library
local names = {}
for name, code in pairs(bridge.codes) do names[code] = name end

-- The library: IBLBRIDGE_LIBRARY, else beside this file.

local function load_library()
    local folder = debug.getinfo(1, 'S').source:match('^@(.*[/\\])') or './'
    local given = os.getenv('IBLBRIDGE_LIBRARY') or ''
    local beside = folder .. (ffi.os == 'Windows' and 'iblbridge.dll' or 'libiblbridge.so')
    for _, place in ipairs({ given, beside }) do
        local file = io.open(place, 'rb')
        if file then
            file:close()
            return ffi.load(place)
        end
    end
    error(('The library of iblbridge is not there. Tried IBLBRIDGE_LIBRARY (%s) and %s.'):format(
        given ~= '' and given or 'not set', beside), 0)
end

local C = load_library()

-- JSON: objects are tables, arrays are tables with the metatable of bridge.array, null is bridge.null.

local is_array = {}
bridge.null = setmetatable({}, { __tostring = function() return 'null' end })

--- Marks a table as a list, so that an empty one is not taken for an object. Returns it.
function bridge.array(list)
    return setmetatable(list, is_array)
end

local ESCAPES = { b = '\b', f = '\f', n = '\n', r = '\r', t = '\t', ['"'] = '"', ['\\'] = '\\', ['/'] = '/' }
local DEEPEST = 200

-- A character as UTF-8; half a surrogate pair as U+FFFD.
local function utf8(code)
    if code < 0x80 then return string.char(code) end
    if code >= 0xD800 and code <= 0xDFFF then code = 0xFFFD end
    local tail, room = '', 64 -- for what is left of the code in the first byte
    repeat
        tail = string.char(0x80 + code % 64) .. tail
        code, room = math.floor(code / 64), room / 2
    until code < room
    return string.char(256 - 2 * room + code) .. tail
end

-- The text with its \uXXXX as characters.
local function characters(text)
    text = text:gsub('\\u([dD][89abAB]%x%x)\\u([dD][c-fC-F]%x%x)', function(high, low)
        return utf8(0x10000 + tonumber(high, 16) % 0x400 * 0x400 + tonumber(low, 16) % 0x400)
    end)
    return (text:gsub('\\u(%x%x%x%x)', function(hex) return utf8(tonumber(hex, 16)) end))
end

--- Reads a JSON text. Raises a sentence that names the byte if it is none.
function bridge.decode(text)
    local at, depth, value = 1, 0, nil

    local function fail()
        error(('This is no JSON at byte %d: %s'):format(at, text:sub(at, at + 20)), 0)
    end

    -- Takes what a pattern finds here, if it does; white space before it does not matter.
    local function take(pattern)
        local found, after = text:match('^[ \t\r\n]*(' .. pattern .. ')()', at)
        at = after or at
        return found
    end

    local function quoted()
        local parts = {}
        repeat
            local plain, mark, after = text:match('^([^%z\1-\31"\\]*)(["\\])()', at)
            if not plain then fail() end
            parts[#parts + 1], at = plain, after
            if mark == '\\' then
                local pair = text:match('^u[dD][89abAB]%x%x\\u[dD][c-fC-F]%x%x', at) or text:match('^u%x%x%x%x', at)
                local escape = pair or text:sub(at, at)
                parts[#parts + 1] = pair and characters('\\' .. pair) or ESCAPES[escape] or fail()
                at = at + #escape
            end
        until mark == '"'
        return table.concat(parts)
    end

    -- Reads what stands between brackets, one by one.
    local function all(closing, read)
        depth = depth + 1
        if depth > DEEPEST then fail() end
        if not take(closing) then
            repeat read() until not take(',')
            if not take(closing) then fail() end
        end
        depth = depth - 1
    end

    function value()
        if take('"') then return quoted() end
        if take('{') then
            local object = {}
            all('}', function()
                local key = take('"') and quoted() or fail()
                if not take(':') then fail() end
                object[key] = value()
            end)
            return object
        end
        if take('%[') then
            local array = bridge.array {}
            all('%]', function() array[#array + 1] = value() end)
            return array
        end
        if take('true') then return true end
        if take('false') then return false end
        if take('null') then return bridge.null end
        local number = take('%-?[1-9]%d*') or take('%-?0') or fail()
        for _, pattern in ipairs({ '^%.%d+', '^[eE][+-]?%d+' }) do
            local part = text:match(pattern, at) or ''
            number, at = number .. part, at + #part
        end
        return tonumber(number)
    end

    local result = value()
    at = text:find('[^ \t\r\n]', at)
    if at then fail() end
    return result
end

local function is_list(value)
    return type(value) == 'table' and (getmetatable(value) == is_array or #value > 0)
end

local function encode(value, depth)
    local kind = type(value)
    if value == bridge.null then return 'null' end
    if kind == 'boolean' then return tostring(value) end
    if kind == 'string' then
        return '"' .. value:gsub('[%z\1-\31"\\]', function(c) return ('\\u%04x'):format(c:byte()) end) .. '"'
    end
    if kind == 'number' and value - value == 0 then
        return (value % 1 == 0 and math.abs(value) < 2 ^ 53 and '%d' or '%.17g'):format(value)
    end
    if kind ~= 'table' or depth > DEEPEST then
        error(('JSON cannot say %s'):format(kind == 'table' and 'what is nested so deeply' or tostring(value)), 0)
    end
    local parts = {}
    if is_list(value) then
        for i = 1, #value do parts[i] = encode(value[i], depth + 1) end
        for key in pairs(value) do
            if not parts[key] then error(('JSON cannot say a list with the key %s'):format(tostring(key)), 0) end
        end
        return '[' .. table.concat(parts, ',') .. ']'
    end
    for key, item in pairs(value) do
        if type(key) ~= 'string' then error(('JSON cannot say the key %s'):format(tostring(key)), 0) end
        parts[#parts + 1] = encode(key, depth) .. ':' .. encode(item, depth + 1)
    end
    return '{' .. table.concat(parts, ',') .. '}'
end

--- Writes a value as JSON. Raises a sentence if JSON cannot say it.
function bridge.encode(value)
    return encode(value, 0)
end

-- Errors. `failed` is the only place where a status becomes one.

local Error = {}
Error.__index = Error
Error.__tostring = function(self) return self.message end

local function raise(code, message, response, request)
    local name = names[code] or 'E_UNKNOWN'
    local fields = { code = code, name = name, message = message, response = response, request = request }
    error(setmetatable(fields, Error), 0)
end

local function sentence_of(handle)
    local text = ffi.new('char[1025]')
    C.iblb_last_error(handle, text, 1025)
    return characters(ffi.string(text))
end

local function check(status, handle, response, request)
    if status < 0 then raise(status, sentence_of(handle), response, request) end
    return status
end

-- Text that comes out: one buffer that grows; what is in it is used at once.

local capacity = 65536
local buffer = ffi.new('char[?]', capacity)
local needed = ffi.new('int[1]')

local function grow()
    capacity = needed[0]
    buffer = ffi.new('char[?]', capacity)
end

-- Calls look(milliseconds) until its status is not E_TIMEOUT or the time is up; in slices, so that Ctrl-C works. A
-- buffer that was too small is made larger.
local function patiently(timeout_ms, look)
    local finish = bridge.clock_ns() / 1e6 + timeout_ms
    local left = timeout_ms
    while true do
        local status = look(math.ceil(math.min(left, SLICE_MS)))
        left = math.max(finish - bridge.clock_ns() / 1e6, 0)
        if status == bridge.codes.E_BUFFER then
            grow()
        elseif status ~= bridge.codes.E_TIMEOUT or left == 0 then
            return status
        end
    end
end

local function number_of(message)
    local number = bridge.messages[message] or tonumber(message)
    if not number then
        raise(bridge.codes.E_MESSAGE, ('There is no message %s; see bridge.messages.'):format(tostring(message)))
    end
    return number
end

local function json_of(arguments)
    if arguments == nil then return nil end
    return bridge.encode(is_list(arguments) and arguments or { arguments })
end

local function names_of(services)
    return type(services) == 'table' and table.concat(services, ',') or services
end

local function ttl_of(ms)
    return ms >= 2 ^ 31 and -1 or math.ceil(ms)
end

local function close(handle)
    if handle[0] ~= 0 then C.iblb_close(handle[0]) end
    handle[0] = 0
end

local Rig = {}
Rig.__index = Rig

--- Attaches to a segment under the name `client` (nil: one that is made up). Waits up to `timeout_ms` (2000) for a
-- segment and a living worker. Returns the rig and a status: bridge.codes.W_NO_WORKER if there is no worker; commands
-- wait for one then.
function bridge.open(segment, client, timeout_ms)
    local handle = ffi.gc(ffi.new('int[1]'), close)
    local status = check(C.iblb_open(segment, client, timeout_ms or 2000, handle), 0)
    return setmetatable({ segment = segment, client = client, handle = handle }, Rig), status
end

--- Gives the slot back. Harmless twice; also done when the rig is collected.
function Rig:close()
    close(self.handle)
end

--- Commands, and waits until all have done it; `options.timeout_ms` (12000) is the command's time to live, too.
-- Returns the response. E_NOT_SENT: nothing was sent. E_PENDING: the answer is still to come, wait for `request` of
-- the error. One wait of the library: Ctrl-C is seen at its end; `send` and `wait` are the way around that.
function Rig:call(message, arguments, options)
    options = options or {}
    local request = ffi.new('int[1]')
    local timeout_ms = math.min(math.ceil(options.timeout_ms or 12000), 2 ^ 31 - 1)
    local status = C.iblb_call(self.handle[0], names_of(options.services), number_of(message), json_of(arguments),
        timeout_ms, buffer, capacity, request)
    if status == bridge.codes.E_BUFFER then return self:wait(request[0], 0) end
    local response = buffer[0] ~= 0 and bridge.decode(ffi.string(buffer)) or nil
    check(status, self.handle[0], response, status == bridge.codes.E_PENDING and request[0] or nil)
    return response
end

--- Commands, and returns at once: the number of the request, and the status. What has not begun to be sent within
-- `options.ttl_ms` never will be (0: 10 s; negative: no limit).
function Rig:send(message, arguments, options)
    options = options or {}
    local request = ffi.new('int[1]')
    local status = C.iblb_send(self.handle[0], names_of(options.services), number_of(message), json_of(arguments),
        ttl_of(options.ttl_ms or 0), request)
    return request[0], check(status, self.handle[0])
end

--- The same, but wants no response. Returns the status.
function Rig:notify(message, arguments, options)
    options = options or {}
    return check(C.iblb_notify(self.handle[0], names_of(options.services), number_of(message), json_of(arguments),
        ttl_of(options.ttl_ms or 0)), self.handle[0])
end

--- Waits up to `timeout_ms` (12000) for the response to a request, and returns it. Without one the request stays open:
-- E_TIMEOUT; E_NO_WORKER at once if no worker lives (a new one will answer).
function Rig:wait(request, timeout_ms)
    local status = patiently(timeout_ms or 12000, function(ms)
        return C.iblb_wait(self.handle[0], request, ms, buffer, capacity, needed)
    end)
    local response = buffer[0] ~= 0 and bridge.decode(ffi.string(buffer)) or nil
    local open = status == bridge.codes.E_TIMEOUT or status == bridge.codes.E_NO_WORKER
    check(status, self.handle[0], response, open and request or nil)
    return response
end

--- Takes a command back if no worker has accepted it. true: nothing will be sent; false: its answer is still to come.
function Rig:withdraw(request)
    return check(C.iblb_withdraw(self.handle[0], request), self.handle[0]) == 0
end

--- Gives a request up. true: no worker had accepted it, and nothing will be sent; false: it is carried out, and its
-- answer discarded.
function Rig:cancel(request)
    return check(C.iblb_cancel(self.handle[0], request), self.handle[0]) == 0
end

--- Chooses the events that `next_event` gives, by name or number: messages that services send by themselves
-- ('EXPINTERRUPT': a camera died) and the worker's ('SERVICE_UP', ...); none for no events. Replaces the earlier
-- choice.
function Rig:subscribe(...)
    local mask = 0
    for _, message in ipairs({ ... }) do mask = bit.bor(mask, number_of(message)) end
    check(C.iblb_subscribe(self.handle[0], mask), self.handle[0])
end

--- The next event, with the keys of iblb_next_event (event, service, data, ...); nil if there was none within
-- `timeout_ms` (1000).
function Rig:next_event(timeout_ms)
    local status = patiently(timeout_ms or 1000, function(ms)
        return C.iblb_next_event(self.handle[0], ms, nil, buffer, capacity, needed)
    end)
    if status == bridge.codes.E_TIMEOUT then return nil end
    check(status, self.handle[0])
    return bridge.decode(ffi.string(buffer))
end

--- Returns { alive, services, services_up }: whether a worker lives, how many services it has, how many of them are up.
function Rig:worker_state()
    local alive, services, up = ffi.new('int[1]'), ffi.new('int[1]'), ffi.new('int[1]')
    check(C.iblb_worker_state(self.handle[0], alive, services, up), self.handle[0])
    return { alive = alive[0] ~= 0, services = services[0], services_up = up[0] }
end

--- The sentence of the last error or warning of this rig.
function Rig:last_error()
    return sentence_of(self.handle[0])
end

--- What a code means and what to do.
function bridge.error_text(code)
    local text = ffi.new('char[1024]')
    check(C.iblb_error_text(code, text, 1024), 0)
    return ffi.string(text)
end

--- The clock of all stamps, ns.
function bridge.clock_ns()
    local now = ffi.new('double[1]')
    C.iblb_clock_ns(now)
    return now[0]
end

--- The version of the library: 10203 means 1.2.3.
function bridge.version()
    return C.iblb_version()
end

return bridge
