--- iblbridge.lua: start, stop and query the remote services of a rig, or be such a service, from LuaJIT.
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
-- - `options` come after the arguments (nil for none): { services = 'cameras,ephys' or a list of names (all if left
--   out), timeout_ms or ttl_ms }. Other names are errors.
-- - An error is a table: `code`, `name` ('E_PARTIAL', as in bridge.codes), `message` (the sentence; also its
--   tostring), `response` if there is one (what the good services said is not lost), `request` if that is still open:
--   wait for it again or cancel it, but do not repeat the command, for it may have started a camera.
-- - Ctrl-C is an error of Lua, a text; look at the type of what pcall gives before you read its fields. No call into
--   the library takes longer than 200 ms (bridge.open: its time; rig:serve: 5 s), so it works in every wait.
-- - The rig keeps `last_request`, the number of the latest command (nil if it was withdrawn, or wanted no response),
--   and `last_response`, the latest response, also of a command that failed (nil if it has none): after Ctrl-C the
--   request is open.
-- - Warnings are no errors but a positive status: `status` where it is returned, response.code.

local bit = require 'bit'
local ffi = require 'ffi'

jit.off(true, true) -- a compiled loop does not see the hook by which Ctrl-C works

ffi.cdef [[
/* prototypes: begin */
int iblb_open(const char *segment, const char *client, int timeout_ms, int *handle);
int iblb_call(int handle, const char *services, int message, const char *args_json, int timeout_ms, char *json, int
    capacity, int *request);
int iblb_close(int handle);
int iblb_last_error(int handle, char *text, int capacity);
int iblb_send(int handle, const char *services, int message, const char *args_json, int ttl_ms, int *request);
int iblb_notify(int handle, const char *services, int message, const char *args_json, int ttl_ms);
int iblb_wait(int handle, int request, int timeout_ms, char *json, int capacity, int *needed);
int iblb_withdraw(int handle, int request);
int iblb_cancel(int handle, int request);
int iblb_send_msgpack(int handle, const char *services, int message, const unsigned char *args, int args_bytes, int
    ttl_ms, int *request);
int iblb_wait_msgpack(int handle, int request, int timeout_ms, unsigned char *bytes, int capacity, int *needed);
int iblb_subscribe(int handle, int message_mask);
int iblb_next_event(int handle, int timeout_ms, int *message, char *json, int capacity, int *needed);
int iblb_serve(int handle, const char *service, int message_mask);
int iblb_next_command(int handle, int timeout_ms, int *command, int *message, char *json, int capacity, int
    *needed);
int iblb_answer(int handle, int command, int status, const char *data_json);
int iblb_fail(int handle, int command, const char *sentence);
int iblb_tell(int handle, int message, const char *data_json);
int iblb_abandon(int handle);
int iblb_error_text(int code, char *text, int capacity);
int iblb_worker_state(int handle, int *alive, int *services, int *services_up);
int iblb_clock_ns(double *now);
int iblb_version(void);
/* prototypes: end */
]]

local bridge = {}

-- numbers: begin
bridge.messages = {
    EXPINIT = 1, EXPSTART = 2, EXPEND = 4, EXPCLEANUP = 8, EXPINTERRUPT = 16, EXPSTATUS = 32, EXPINFO = 64,
    ALYX = 128, PING = 4096, SERVICES = 8192, SERVICE_UP = 256, SERVICE_DOWN = 512, CLIENT_LOST = 1024,
    WORKER_RESTARTED = 2048, EXPERIMENT_LOST = 16384, SERVICES_CHANGED = 131072
}
bridge.statuses = {
    CONNECTED = 0, INITIALIZED = 10, RUNNING = 20, STOPPED = 30
}
bridge.codes = {
    OK = 0, E_ARGUMENT = -8001, E_HANDLE = -8002, E_CLOSED = -8003, E_FORKED = -8004, E_NAME = -8005,
    E_HANDLES = -8006, E_NO_SEGMENT = -8010, E_SEGMENT = -8011, E_VERSION = -8012, E_STALE = -8013,
    E_PERMISSION = -8014, E_NO_SLOT = -8015, E_NAME_TAKEN = -8016, E_QUARANTINED = -8017, E_NO_WORKER = -8018,
    E_WORKER_BUSY = -8019, E_SYSTEM = -8020, E_MEMORY = -8021, E_SUPERSEDED = -8022, E_MESSAGE = -8030,
    E_SERVICE = -8031, E_UTF8 = -8032, E_JSON = -8033, E_MSGPACK = -8034, E_ARGS = -8035, E_TOO_LARGE = -8036,
    E_FULL = -8037, E_TOO_MANY = -8038, E_TIMEOUT = -8050, E_REQUEST = -8051, E_BUFFER = -8052, E_NOT_SENT = -8053,
    E_PENDING = -8054, E_CANCELLED = -8055, E_LATE = -8056, E_COMMAND = -8057, E_PARTIAL = -8070,
    E_ALL_FAILED = -8071, E_EXPIRED = -8072, E_ABORTED = -8073, E_OUTCOME_UNKNOWN = -8074, E_INTERNAL = -8075,
    W_NO_WORKER = 5001, W_OPTIONAL = 5002, W_ACCEPTED = 5003, W_SHORTENED = 5004, W_STATUS = 5005,
    W_NO_SERVICES = 5006
}
-- numbers: end

local SLICE_MS = 200 -- the longest wait inside of the library
local names = {}
for name, code in pairs(bridge.codes) do names[code] = name end

-- The library: what IBLBRIDGE_LIBRARY names, if it is set, else the one beside this file.

local function load_library()
    local bits = ffi.abi('64bit') and 64 or 32
    local names = { Windows = ('iblbridge_%d.dll'):format(bits), OSX = 'libiblbridge.dylib' }
    local file = names[ffi.os] or 'libiblbridge.so'
    local folder = debug.getinfo(1, 'S').source:match('^@(.*[/\\])') or './'
    if ffi.os == 'Windows' then folder = folder:gsub('/', '\\') end -- LoadLibrary wants them
    local given = os.getenv('IBLBRIDGE_LIBRARY') or ''
    local place = given ~= '' and given or folder .. file
    local opened, problem = io.open(place, 'rb')
    if opened then
        problem = select(2, opened:read(1)) -- a folder can be opened, but not read
        opened:close()
    end
    if not problem then
        local fine, library = pcall(ffi.load, place)
        if fine then return library end
        problem = library:gsub('[%.%s]+$', '') -- Windows ends it with a line
    end
    problem = problem:find(place, 1, true) and problem or place .. ': ' .. problem
    local advice = 'Copy %s there, or set IBLBRIDGE_LIBRARY (not set) to its absolute path.'
    if given ~= '' then
        advice = 'IBLBRIDGE_LIBRARY names it: set that to the absolute path of %s, or copy the file to %s and unset it.'
    end
    local told = 'The library of iblbridge for %d-bit programs cannot be loaded: %s. '
    error((told .. advice):format(bits, problem, file, folder), 0)
end

local C = load_library()

-- Errors. All are made by `raise`; `check` is the only place where a status becomes one.

local Error = {}
Error.__index = Error
Error.__tostring = function(self) return self.message end

local function raise(code, message, response, request)
    local name = names[code] or 'E_UNKNOWN'
    local fields = { code = code, name = name, message = message, response = response, request = request }
    error(setmetatable(fields, Error), 0)
end

-- A mistake of the program that calls.
local function refuse(sentence, ...)
    raise(bridge.codes.E_ARGUMENT, sentence:format(...))
end

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

-- Returns a number; a whole one from 2^53, which Lua's own numbers would round, as int64_t or uint64_t.
local function exact(number)
    local negative, digits = number:match('^(-?)(%d+)$')
    if not digits or #digits < 16 or math.abs(tonumber(number)) < 2 ^ 53 then return tonumber(number) end
    local most = negative == '-' and '9223372036854775808' or '18446744073709551615'
    if #digits > #most or (#digits == #most and digits > most) then return tonumber(number) end
    local whole = 0ULL
    for digit in digits:gmatch('%d') do whole = whole * 10ULL + tonumber(digit) end
    if negative == '-' then return -ffi.cast('int64_t', whole) end
    return whole < 9223372036854775808ULL and ffi.cast('int64_t', whole) or whole
end

--- Reads a JSON text. E_JSON, which names the byte, if it is none. A whole number from 2^53 is an int64_t or uint64_t.
function bridge.decode(text)
    if type(text) ~= 'string' then refuse('JSON is a text, not %s.', tostring(text)) end
    local at, depth, value = 1, 0, nil

    local function fail()
        raise(bridge.codes.E_JSON, ('This is not JSON at byte %d: %s'):format(at, text:sub(at, at + 20)))
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
        return exact(number)
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
    if kind == 'cdata' and (ffi.istype('int64_t', value) or ffi.istype('uint64_t', value)) then
        return (tostring(value):gsub('U?LL$', ''))
    end
    if value == bridge.null then return 'null' end
    if kind == 'boolean' then return tostring(value) end
    if kind == 'string' then
        return '"' .. value:gsub('[%z\1-\31"\\]', function(c) return ('\\u%04x'):format(c:byte()) end) .. '"'
    end
    if kind == 'number' and value - value == 0 then
        return (value % 1 == 0 and math.abs(value) < 2 ^ 53 and '%d' or '%.17g'):format(value)
    end
    if kind ~= 'table' or depth > DEEPEST then
        refuse('JSON cannot express %s.', kind == 'table' and 'what is nested so deeply' or tostring(value))
    end
    local parts = {}
    if is_list(value) then
        for i = 1, #value do parts[i] = encode(value[i], depth + 1) end
        for key in pairs(value) do
            if not parts[key] then refuse('JSON cannot express a list with the key %s.', tostring(key)) end
        end
        return '[' .. table.concat(parts, ',') .. ']'
    end
    for key, item in pairs(value) do
        if type(key) ~= 'string' then refuse('JSON cannot express the key %s.', tostring(key)) end
        parts[#parts + 1] = encode(key, depth) .. ':' .. encode(item, depth + 1)
    end
    return '{' .. table.concat(parts, ',') .. '}'
end

--- Writes a value as JSON. E_ARGUMENT if JSON cannot express it.
function bridge.encode(value)
    return encode(value, 0)
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

-- What the program gives is looked at here, before anything is sent.

local Rig = {}

-- `last_request` is looked up where C has written it: Ctrl-C may come before our next instruction.
function Rig.__index(rig, key)
    if key ~= 'last_request' then return Rig[key] end
    local number = rawget(rig, 'request')
    return number and number[0] ~= 0 and number[0] or nil
end
local WEAK = { __mode = 'k' }

local OPTIONS = { services = true, timeout_ms = true, ttl_ms = true } -- of all methods

local function handle_of(rig)
    if type(rig) ~= 'table' or getmetatable(rig) ~= Rig then
        refuse('Write rig:call(...), with a colon; rig is what bridge.open returned.')
    end
    return rig.handle[0]
end

local function text_of(value, what)
    if type(value) ~= 'string' or value:find('%z') then
        refuse('%s is text without a NUL, not %s.', what, tostring(value))
    end
    return value
end

local function whole(value, what)
    if type(value) ~= 'number' or value % 1 ~= 0 or math.abs(value) >= 2 ^ 31 then
        refuse('%s, not %s.', what, tostring(value))
    end
    return value
end

-- Milliseconds to wait; math.huge is allowed.
local function duration(value, otherwise)
    if value == nil then return otherwise end
    if type(value) ~= 'number' or not (value >= 0) then
        refuse('timeout_ms is a number of milliseconds, 0 or more, not %s.', tostring(value))
    end
    return value
end

-- Milliseconds to live as the library takes them: what is too long for it is no limit.
local function ttl_of(value)
    if value == nil then return 0 end
    if type(value) ~= 'number' or value ~= value then
        refuse('ttl_ms is a number of milliseconds, not %s.', tostring(value))
    end
    return (value < 0 or value >= 2 ^ 31) and -1 or math.ceil(value)
end

local function number_of(message)
    if bridge.messages[message] then return bridge.messages[message] end
    if type(message) == 'number' then return whole(message, 'The number of a message must be an integer') end
    local all = {}
    for name in pairs(bridge.messages) do all[#all + 1] = name end
    table.sort(all, function(one, other) return bridge.messages[one] < bridge.messages[other] end)
    local sentence = 'There is no message %s; there are %s.'
    raise(bridge.codes.E_MESSAGE, sentence:format(tostring(message), table.concat(all, ', ')))
end

local function request_of(request)
    return whole(request, 'A request is the number that rig:send returned')
end

local function names_of(services)
    if services == nil then return nil end
    local names = type(services) == 'table' and services or { text_of(services, 'services') }
    if #names == 0 then refuse('The list of services is empty. Leave it out to reach all.') end
    for i = 1, #names do
        local name = text_of(names[i], 'The name of a service')
        if not name:find('%S') then refuse('A name in the list of services is empty.') end
    end
    return table.concat(names, ',')
end

-- The options of a method, whose time has the name `time`.
local function read(options, time)
    if options == nil then return {} end
    local known = ("{ services = 'cameras,ephys', %s = 5000 }"):format(time)
    if type(options) ~= 'table' then
        refuse('After the arguments come the options, as %s, not %s.', known, tostring(options))
    end
    for name in pairs(options) do
        if name ~= 'services' and name ~= time then
            refuse('There is no option %s; there are services and %s, as in %s. More than one argument of a message ' ..
                'is a list.', tostring(name), time, known)
        end
    end
    return options
end

local function json_of(arguments)
    if arguments == nil then return nil end
    if is_list(arguments) then return bridge.encode(arguments) end
    local option, strange
    for name in pairs(type(arguments) == 'table' and arguments or {}) do
        option, strange = OPTIONS[name] and name or option, strange or not OPTIONS[name]
    end
    if option and not strange then
        refuse('The option %s stands in the place of the arguments. Options come after them: ' ..
            "rig:call('EXPINIT', nil, { %s = ... }). To send such an object to the services, make it the only " ..
            'element of a list: { { %s = ... } }.', option, option, option)
    end
    return bridge.encode({ arguments })
end

local function status_of(status)
    if status == nil then return -1 end
    local found = bridge.statuses[status] or status
    for _, number in pairs(bridge.statuses) do
        if number == found then return found end
    end
    refuse('There is no status %s; there are CONNECTED, INITIALIZED, RUNNING and STOPPED.', tostring(status))
end

local function said(data)
    return data ~= nil and bridge.encode(data) or nil
end

-- Commands.

-- Sends a command, whose number becomes rig.last_request; returns that and the status.
local function post(rig, handle, message, arguments, options, ttl_ms)
    local services, number, json = names_of(options.services), number_of(message), json_of(arguments)
    local request = ffi.new('int[1]')
    rig.request, rig.last_response = request, nil
    local status = check(C.iblb_send(handle, services, number, json, ttl_ms, request), handle)
    return request[0], status
end

local function response_of(text)
    local response = bridge.decode(text)
    for _, service in ipairs(response.services) do
        service.reason, service.status = service.reason or '', service.status or -1 -- of a worker of an older version
    end
    return response
end

-- Waits for a response, which becomes rig.last_response; returns the status.
local function await(rig, handle, request, timeout_ms)
    rig.request, rig.last_response = ffi.new('int[1]', request), nil
    local status = patiently(timeout_ms, function(ms)
        return C.iblb_wait(handle, request, ms, buffer, capacity, needed)
    end)
    if buffer[0] ~= 0 then rig.last_response = response_of(ffi.string(buffer)) end
    return status
end

-- Ends a call without a response as iblb_call does: takes back what no worker has accepted.
local function give_up(rig, handle, request, waited)
    local codes, left = bridge.codes, C.iblb_withdraw(handle, request)
    local alone = waited == codes.E_NO_WORKER
    if left == codes.W_ACCEPTED then
        raise(codes.E_PENDING, alone and 'The worker died with the command. Start it again and wait for the same ' ..
            'request; do not repeat the command.' or bridge.error_text(codes.E_PENDING), nil, request)
    elseif left == codes.OK then
        rig.request = nil
        if not alone then raise(codes.E_NOT_SENT, bridge.error_text(codes.E_NOT_SENT)) end
        raise(waited, 'No worker serves the segment. The command was withdrawn; nothing was sent. Start the worker.')
    end
end

local function close(handle)
    if handle[0] ~= 0 then C.iblb_close(handle[0]) end
    handle[0] = 0
end

-- As lost. The collector does this, because nobody said that all is well.
local function abandon(handle)
    if handle[0] ~= 0 then C.iblb_abandon(handle[0]) end
    handle[0] = 0
end

--- Attaches to a segment under the name `client` (nil: a made-up one). Waits up to `timeout_ms` (2000) for a
-- segment and a living worker. Returns the rig and a status: bridge.codes.W_NO_WORKER if there is no worker; commands
-- wait for one then. Opening the same segment under the same name again closes the first rig.
function bridge.open(segment, client, timeout_ms)
    text_of(segment, 'The segment')
    if client ~= nil then text_of(client, 'The client') end
    local wait_ms = math.min(math.ceil(duration(timeout_ms, 2000)), 2 ^ 31 - 1)
    local handle = ffi.gc(ffi.new('int[1]'), abandon)
    local status = check(C.iblb_open(segment, client, wait_ms, handle), 0)
    local rig = { segment = segment, client = client, handle = handle, ahead = {}, in_hand = setmetatable({}, WEAK) }
    return setmetatable(rig, Rig), status
end

function Rig:__tostring()
    local name = self.client and (' "%s"'):format(self.client) or ''
    return ('iblbridge of %s%s%s'):format(self.segment, name, self.handle[0] == 0 and ', closed' or '')
end

--- Gives the slot back. Calling it twice is harmless.
function Rig:close()
    handle_of(self)
    close(self.handle)
end

--- The same, but says that the work is not done: to the worker this client is lost. So is a rig that is collected.
function Rig:abandon()
    handle_of(self)
    abandon(self.handle)
end

--- Sends a command and waits until every service has done it. `options.timeout_ms` (12000) is also its time to live,
-- and should be longer than a service of the configuration has for its reply. Returns the response. If time is up or no
-- worker lives, a command that no worker has accepted is withdrawn (E_NOT_SENT, E_NO_WORKER: nothing was sent); the
-- answer to an accepted one is still to come (E_PENDING: wait for `request` of the error).
function Rig:call(message, arguments, options)
    local handle, codes = handle_of(self), bridge.codes
    options = read(options, 'timeout_ms')
    local timeout_ms = duration(options.timeout_ms, 12000)
    local request = post(self, handle, message, arguments, options, ttl_of(math.max(timeout_ms, 1)))
    local status = await(self, handle, request, timeout_ms)
    if status == codes.E_TIMEOUT or status == codes.E_NO_WORKER then give_up(self, handle, request, status) end
    check(status, handle, self.last_response)
    return self.last_response
end

--- Sends a command and returns at once: the number of the request, and the status. What has not begun to be sent within
-- `options.ttl_ms` never will be (0: 10 s; negative: no limit).
function Rig:send(message, arguments, options)
    local handle = handle_of(self)
    options = read(options, 'ttl_ms')
    return post(self, handle, message, arguments, options, ttl_of(options.ttl_ms))
end

--- The same, without a response. Returns the status.
function Rig:notify(message, arguments, options)
    local handle = handle_of(self)
    options = read(options, 'ttl_ms')
    local services, number, json = names_of(options.services), number_of(message), json_of(arguments)
    self.request, self.last_response = nil, nil
    return check(C.iblb_notify(handle, services, number, json, ttl_of(options.ttl_ms)), handle)
end

--- Waits up to `timeout_ms` (12000) for the response to a request, and returns it. Without one the request stays open:
-- E_TIMEOUT; E_NO_WORKER at once if no worker lives (a new one will answer).
function Rig:wait(request, timeout_ms)
    local handle = handle_of(self)
    local status = await(self, handle, request_of(request), duration(timeout_ms, 12000))
    local open = status == bridge.codes.E_TIMEOUT or status == bridge.codes.E_NO_WORKER
    check(status, handle, self.last_response, open and request or nil)
    return self.last_response
end

--- Withdraws a command if no worker has accepted it. true: nothing will be sent; false: its answer is still to come.
function Rig:withdraw(request)
    local handle = handle_of(self)
    return check(C.iblb_withdraw(handle, request_of(request)), handle) == 0
end

--- Gives a request up. true: no worker had accepted it, and nothing will be sent; false: it is carried out, and its
-- answer discarded.
function Rig:cancel(request)
    local handle = handle_of(self)
    return check(C.iblb_cancel(handle, request_of(request)), handle) == 0
end

--- Chooses the events that `next_event` gives, by name or number: messages that services send by themselves
-- ('EXPINTERRUPT': a camera died) and the worker's ('SERVICE_UP', ...); none at all: every event; 0: none.
-- Replaces the earlier choice.
function Rig:subscribe(...)
    local handle, mask = handle_of(self), 0
    for name, event in pairs(bridge.messages) do
        if select('#', ...) == 0 and name ~= 'PING' and name ~= 'SERVICES' then mask = bit.bor(mask, event) end
    end
    for i = 1, select('#', ...) do mask = bit.bor(mask, number_of((select(i, ...)))) end
    check(C.iblb_subscribe(handle, mask), handle)
end

--- The next event, with the keys of iblb_next_event (event, service, data, ...); nil if there was none within
-- `timeout_ms` (1000).
function Rig:next_event(timeout_ms)
    local handle = handle_of(self)
    local status = patiently(duration(timeout_ms, 1000), function(ms)
        return C.iblb_next_event(handle, ms, nil, buffer, capacity, needed)
    end)
    if status == bridge.codes.E_TIMEOUT then return nil end
    check(status, handle)
    return bridge.decode(ffi.string(buffer))
end

-- Serving.

local SERVED = { 'EXPINIT', 'EXPSTART', 'EXPEND', 'EXPCLEANUP', 'EXPINTERRUPT' } -- the worker itself answers the rest

local UNSEEN = 'The program served no more when this %s came.'
local LEFT = 'The program went on without an answer to this %s.'

--- What rig:next_command returns: `command` (its number), `service`, `master`, `message` ('EXPSTART'), `args`, `time`,
-- `wall`, `timeout_ms`. Answer or fail it once. Later it has `code`, what came of that, and `error`, what the work of
-- `attempt` has raised.
local Command = {}
Command.__index = Command
local states = setmetatable({}, WEAK) -- of commands: their rig, and what overtook them

local function state_of(command)
    local state = states[command]
    if not state then refuse('Write command:answer(...), with a colon; command is what rig:next_command returned.') end
    return state
end

-- The next one from the library; all that are in hand are told of it.
local function take(rig, handle, timeout_ms)
    local number = ffi.new('int[1]')
    local status = patiently(timeout_ms, function(ms)
        local code = C.iblb_next_command(handle, ms, number, number, buffer, capacity, needed)
        return code == bridge.codes.E_NO_WORKER and bridge.codes.E_TIMEOUT or code -- it waits for the next worker
    end)
    if status == bridge.codes.E_TIMEOUT then return nil end
    check(status, handle)
    local command = setmetatable(bridge.decode(ffi.string(buffer)), Command)
    local sentence = command.message == 'EXPINTERRUPT' and 'An EXPINTERRUPT overtook this %s.' or 'The time of this %s is up.'
    for older in pairs(rig.in_hand) do
        if older.message ~= 'EXPINTERRUPT' then states[older].overtaken = sentence:format(older.message) end
    end
    rig.in_hand[command], states[command] = true, { rig = rig }
    return command
end

-- Fails what nobody will answer any more, whatever comes of it.
local function leave(command, sentence)
    if command and not command.code then
        C.iblb_fail(states[command].rig.handle[0], command.command, sentence:format(command.message))
    end
end

-- Notes how a command ended.
local function finished(command, status)
    local rig = states[command].rig
    if status ~= bridge.codes.E_LATE then check(status, rig.handle[0]) end
    command.code, rig.in_hand[command] = status, nil
    return status
end

--- From now on this program is a service: rig:next_command gives what masters ask of the worker's listener `service`
-- (nil: the only one there is). By name or number come the messages that it wants to be asked ('EXPINIT', 'EXPSTART',
-- 'EXPEND', 'EXPCLEANUP', 'EXPINTERRUPT' if there are none); 0: it serves no more. Waits at most 5 s, for a worker that
-- has just started. Returns the status. E_SERVICE: there is no such listener; E_NAME_TAKEN: another program serves it.
function Rig:serve(service, ...)
    local handle, mask = handle_of(self), 0
    if service ~= nil then text_of(service, 'The service') end
    for _, message in ipairs(select('#', ...) > 0 and { ... } or SERVED) do mask = bit.bor(mask, number_of(message)) end
    local status = check(C.iblb_serve(handle, service, mask), handle)
    if mask == 0 then
        for _, command in ipairs(self.ahead) do leave(command, UNSEEN) end
        leave(self.looped, LEFT)
        self.ahead, self.looped = {}, nil
    end
    return status
end

--- The next command, an EXPINTERRUPT before all others; nil if there was none within `timeout_ms` (1000), also if no
-- worker lives: the next one asks this program.
function Rig:next_command(timeout_ms)
    local handle = handle_of(self)
    timeout_ms = duration(timeout_ms, 1000)
    return table.remove(self.ahead, 1) or take(self, handle, timeout_ms)
end

--- All commands from now on: `for command in rig:commands() do`. What the body leaves without an answer fails by itself
-- when the loop goes on, or rig:serve(service, 0) is called behind it. Ends when the rig is closed.
function Rig:commands()
    handle_of(self)
    return function()
        leave(self.looped, LEFT)
        self.looped = nil
        while self.handle[0] ~= 0 and not self.looped do self.looped = self:next_command() end
        return self.looped
    end
end

--- Says something to the masters without having been asked: 'EXPINTERRUPT' (what this does has ended, a camera died),
-- 'EXPSTATUS' (with { status = bridge.statuses.RUNNING }, what it does from now on), 'EXPINFO' (what the worker answers
-- to that from now on). Never waits. Returns the status.
function Rig:tell(message, data)
    local handle = handle_of(self)
    return check(C.iblb_tell(handle, number_of(message), said(data)), handle)
end

--- Says that it was done, with `data` for the master (nil: nothing). `options.status` ('RUNNING', ...) is what this
-- program does now; left out: what is usual after this message. Returns 0; W_NO_WORKER: the next worker delivers it;
-- E_LATE: the master has been told already that it failed. After an error it may be answered again.
function Command:answer(data, options)
    local rig = state_of(self).rig
    for name in pairs(options or {}) do
        if name ~= 'status' then refuse('There is no option %s; there is status.', tostring(name)) end
    end
    local status = status_of(options and options.status)
    return finished(self, C.iblb_answer(rig.handle[0], self.command, status, said(data)))
end

--- Says that it was not done, and why. Returns as answer.
function Command:fail(sentence)
    local rig = state_of(self).rig
    return finished(self, C.iblb_fail(rig.handle[0], self.command, text_of(sentence, 'The sentence')))
end

--- Does what was asked: work(command), and answers with what that returns, unless it has answered itself. If it raises
-- an error, the master is told that, and `error` has it; only Ctrl-C is raised again. Returns as answer.
function Command:attempt(work)
    state_of(self)
    local fine, result = pcall(function()
        local data = work(self)
        if not self.code then self:answer(data) end
    end)
    if not fine then
        self.error = result
        if not self.code then self:fail((tostring(result):gsub('%z', ' '))) end
        if type(result) == 'string' and result:find('interrupted!$') then error(result, 0) end
    end
    return self.code
end

--- Waits `timeout_ms` (0) for what overtakes this command: an EXPINTERRUPT, or another command, because the time of this
-- one is up; both are next in turn. Returns why, as a sentence, or nil. For work that takes long, also as its pause.
function Command:interrupted(timeout_ms)
    local state = state_of(self)
    local finish = bridge.clock_ns() / 1e6 + duration(timeout_ms, 0)
    repeat
        if self.code or state.overtaken then return state.overtaken end
        local left = math.max(finish - bridge.clock_ns() / 1e6, 0)
        table.insert(state.rig.ahead, take(state.rig, handle_of(state.rig), left))
    until left == 0
    return state.overtaken
end

--- Returns { alive, services, services_up }: whether a worker lives, how many services it has, how many of them have
-- answered within the last 30 s (none if the rig was idle that long).
function Rig:worker_state()
    local handle = handle_of(self)
    local alive, services, up = ffi.new('int[1]'), ffi.new('int[1]'), ffi.new('int[1]')
    check(C.iblb_worker_state(handle, alive, services, up), handle)
    return { alive = alive[0] ~= 0, services = services[0], services_up = up[0] }
end

--- The sentence of the last error or warning of this rig.
function Rig:last_error()
    return sentence_of(handle_of(self))
end

--- What a code means and what to do.
function bridge.error_text(code)
    local text = ffi.new('char[1024]')
    if C.iblb_error_text(whole(code, 'A code is a whole number'), text, 1024) < 0 then
        refuse('There is no code %d; see bridge.codes.', code)
    end
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
