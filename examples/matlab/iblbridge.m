classdef iblbridge < handle
    % IBLBRIDGE  Start, stop and query the remote services of a rig, from MATLAB and Octave.
    %
    %     rig = iblbridge('rig0', 'stimulus');
    %     response = rig.call('EXPSTART', '2026-01-01_1_subject');
    %     {response.services.name}
    %     rig.close();
    %
    % Messages are given by name ('EXPSTART', see iblbridge.messages) or number. iblbridge.h lists their arguments,
    % the keys of a response, and what each code means. The same rules hold for all methods:
    %
    % - Times are milliseconds for waiting (Inf is allowed) and nanoseconds of iblbridge.clock_ns in responses, as
    %   doubles, which are exact for 104 days of uptime. No call into the library takes longer than 200 ms, so
    %   Ctrl-C works in every wait.
    % - `arguments` of a message: none ([] or left out); a cell array, the list of the arguments; or anything else,
    %   the single argument. A char is one argument, and so is a struct; a single argument that is a list is {{1, 2}}.
    %   They become JSON with jsonencode: a 1x1 array is a number, [] inside is an empty list. NaN, Inf and complex
    %   numbers are refused. Whole numbers from 1e15 need a type of 64 bits (int64), and arrive exactly.
    % - Options follow as pairs of name and value: 'services', which ones are meant ('cameras,ephys' or {'cameras',
    %   'ephys'}; all if left out); 'timeout_ms' or 'ttl_ms'.
    % - A response is a struct as in iblbridge.h. `services` is always a struct array, a row with one service each, and
    %   `data` always a struct. What is inside it is as jsondecode makes it, except whole numbers beyond 2^53: those
    %   are int64 or uint64 (in a cell array, if others stand beside them). Names of services are values, so
    %   cameras:left stays; a key inside `data` that cannot name a field is changed (a b becomes aB, 0x becomes x0x).
    % - An error has the identifier iblbridge:NAME, without the E_ of iblbridge.codes (iblbridge:PARTIAL), and a
    %   sentence that says what happened and what to do. The rig keeps `last_status` and `last_response`: what the
    %   good services said is not lost. Warnings are no errors: last_status is positive then, and last_error() is its
    %   sentence.
    % - iblbridge:PENDING of `call`, iblbridge:TIMEOUT and iblbridge:NO_WORKER of `wait`, and Ctrl-C, leave the request
    %   open, as last_request: wait for it again or cancel it, but do not repeat the command, for it may have started a
    %   camera. After iblbridge:NOT_SENT and iblbridge:NO_WORKER of `call` nothing was sent, and last_request is 0.
    %   If Ctrl-C comes in the moment of sending, nobody knows the request: last_request is NaN. Ask EXPSTATUS.
    % - Your program can be a service itself, which masters command: see serve, next_command, tell, iblbridge_command.

    properties (SetAccess = private)
        segment = '';       % the name of the rig's segment
        client = '';        % the name of this program there
        last_status = 0;    % of the latest method: 0, a positive warning, a negative error (iblbridge.codes)
        last_response = []; % the latest response, also of a command that failed; [] if it has none
        last_request = 0;   % the number of the latest command; 0: there is none; NaN: perhaps there is one
    end

    properties (SetAccess = private, Hidden)
        interrupts = 0; % how many EXPINTERRUPT were taken by next_command
    end

    properties (Constant)
        % By name: the messages (the last five are events only), what a service says it does (`status` of its entry
        % in a response), and the codes; iblbridge.error_text says what each means.
        % numbers: begin
        messages = struct( ...
            'EXPINIT', 1, 'EXPSTART', 2, 'EXPEND', 4, 'EXPCLEANUP', 8, 'EXPINTERRUPT', 16, 'EXPSTATUS', 32, ...
            'EXPINFO', 64, 'ALYX', 128, 'PING', 4096, 'SERVICES', 8192, 'SERVICE_UP', 256, 'SERVICE_DOWN', 512, ...
            'CLIENT_LOST', 1024, 'WORKER_RESTARTED', 2048, 'EXPERIMENT_LOST', 16384, 'SERVICES_CHANGED', 131072);
        statuses = struct( ...
            'CONNECTED', 0, 'INITIALIZED', 10, 'RUNNING', 20, 'STOPPED', 30);
        codes = struct( ...
            'OK', 0, 'E_ARGUMENT', -8001, 'E_HANDLE', -8002, 'E_CLOSED', -8003, 'E_FORKED', -8004, 'E_NAME', -8005, ...
            'E_HANDLES', -8006, 'E_NO_SEGMENT', -8010, 'E_SEGMENT', -8011, 'E_VERSION', -8012, 'E_STALE', -8013, ...
            'E_PERMISSION', -8014, 'E_NO_SLOT', -8015, 'E_NAME_TAKEN', -8016, 'E_QUARANTINED', -8017, ...
            'E_NO_WORKER', -8018, 'E_WORKER_BUSY', -8019, 'E_SYSTEM', -8020, 'E_MEMORY', -8021, ...
            'E_SUPERSEDED', -8022, 'E_MESSAGE', -8030, 'E_SERVICE', -8031, 'E_UTF8', -8032, 'E_JSON', -8033, ...
            'E_MSGPACK', -8034, 'E_ARGS', -8035, 'E_TOO_LARGE', -8036, 'E_FULL', -8037, 'E_TOO_MANY', -8038, ...
            'E_TIMEOUT', -8050, 'E_REQUEST', -8051, 'E_BUFFER', -8052, 'E_NOT_SENT', -8053, 'E_PENDING', -8054, ...
            'E_CANCELLED', -8055, 'E_LATE', -8056, 'E_COMMAND', -8057, 'E_PARTIAL', -8070, 'E_ALL_FAILED', -8071, ...
            'E_EXPIRED', -8072, 'E_ABORTED', -8073, 'E_OUTCOME_UNKNOWN', -8074, 'E_INTERNAL', -8075, ...
            'W_NO_WORKER', 5001, 'W_OPTIONAL', 5002, 'W_ACCEPTED', 5003, 'W_SHORTENED', 5004, 'W_STATUS', 5005, ...
            'W_NO_SERVICES', 5006);
        % numbers: end
    end

    properties (Constant, Hidden)
        % A letter for each parameter: t text and i int go in; T text, I int and D double come out.
        % signatures: begin
        signatures = struct( ...
            'iblb_open', 'ttiI', 'iblb_call', 'ititiTiI', 'iblb_close', 'i', 'iblb_last_error', 'iTi', ...
            'iblb_send', 'ititiI', 'iblb_notify', 'ititi', 'iblb_wait', 'iiiTiI', 'iblb_withdraw', 'ii', ...
            'iblb_cancel', 'ii', 'iblb_subscribe', 'ii', 'iblb_next_event', 'iiITiI', 'iblb_serve', 'iti', ...
            'iblb_next_command', 'iiIITiI', 'iblb_answer', 'iiit', 'iblb_fail', 'iit', 'iblb_tell', 'iit', ...
            'iblb_abandon', 'i', 'iblb_error_text', 'iTi', 'iblb_worker_state', 'iIII', 'iblb_clock_ns', 'D', ...
            'iblb_version', '');
        % signatures: end
    end

    properties (Access = private)
        handle = 0; % 0 when closed
    end

    methods
        function rig = iblbridge(segment, client, timeout_ms)
            % RIG = IBLBRIDGE(SEGMENT, CLIENT, TIMEOUT_MS)
            % Attaches to a segment. CLIENT: the name of this program, '' for a made-up one. Waits up to
            % TIMEOUT_MS (2000) for a segment and a living worker. Without a worker, last_status is
            % iblbridge.codes.W_NO_WORKER, and commands wait for one. Opening the same segment under the same name
            % again closes the first rig.
            if nargin < 2, client = ''; end
            if nargin < 3, timeout_ms = 2000; end
            timeout_ms = milliseconds_of(timeout_ms);
            rig.segment = char(segment);
            rig.client = char(client);
            codes = iblbridge.codes;
            again = [codes.E_NO_SEGMENT, codes.E_STALE, codes.E_NO_SLOT, codes.E_SYSTEM]; % what iblb_open waits for
            started = tic;
            open = @(slice) outputs(2, 'iblb_open', rig.segment, rig.client, slice);
            found = patiently(open, timeout_ms, again);
            [status, rig.handle] = found{:};
            while status == codes.W_NO_WORKER && 1000 * toc(started) < timeout_ms
                pause(0.02);
                state = rig.worker_state();
                status = status * ~state.alive;
            end
            rig.check(status);
        end

        function response = call(rig, message, varargin)
            % RESPONSE = RIG.CALL(MESSAGE, ARGUMENTS, 'services', ..., 'timeout_ms', 12000)
            % Sends a command and waits until all have done it. TIMEOUT_MS should be longer than a service of the
            % configuration has for its reply. If time is up or no worker lives, a command that no worker has accepted
            % is withdrawn (iblbridge:NOT_SENT, iblbridge:NO_WORKER); the answer to an accepted one is still to come
            % (iblbridge:PENDING: wait for last_request, do not repeat it).
            [args, options] = parse(struct('services', '', 'timeout_ms', 12000), varargin);
            timeout_ms = milliseconds_of(options.timeout_ms);
            ttl_ms = max(timeout_ms, 1);
            if isinf(ttl_ms), ttl_ms = -1; end
            rig.post('iblb_send', message, args, options.services, ttl_ms);
            status = rig.await(rig.last_request, timeout_ms);
            codes = iblbridge.codes;
            if any(status == [codes.E_TIMEOUT, codes.E_NO_WORKER]) % take back what can be, as iblb_call does
                rig.take_back(status);
            end
            rig.check(status);
            response = rig.last_response;
        end

        function request = send(rig, message, varargin)
            % REQUEST = RIG.SEND(MESSAGE, ARGUMENTS, 'services', ..., 'ttl_ms', 0)
            % Sends a command and returns at once. What has not begun to be sent within its time to live never will be
            % (0: 10 s, negative: no limit).
            [args, options] = parse(struct('services', '', 'ttl_ms', 0), varargin);
            rig.post('iblb_send', message, args, options.services, options.ttl_ms);
            request = rig.last_request;
        end

        function notify(rig, message, varargin)
            % RIG.NOTIFY(MESSAGE, ARGUMENTS, 'services', ..., 'ttl_ms', 0)
            % Sends a command without waiting for a response.
            [args, options] = parse(struct('services', '', 'ttl_ms', 0), varargin);
            rig.post('iblb_notify', message, args, options.services, options.ttl_ms);
        end

        function response = wait(rig, request, timeout_ms)
            % RESPONSE = RIG.WAIT(REQUEST, TIMEOUT_MS)
            % Waits up to TIMEOUT_MS (12000) for the response to a request. iblbridge:TIMEOUT: there is none yet, wait
            % again. iblbridge:NO_WORKER: at once if no worker lives; a new one will answer.
            if nargin < 3, timeout_ms = 12000; end
            rig.check(rig.await(rig.known(request), milliseconds_of(timeout_ms)));
            response = rig.last_response;
        end

        function withdrawn = withdraw(rig, request)
            % WITHDRAWN = RIG.WITHDRAW(REQUEST)
            % Withdraws a command if no worker has accepted it: true, nothing will be sent; false: its answer is still
            % to come.
            withdrawn = rig.check(invoke('iblb_withdraw', rig.handle, rig.known(request))) == 0;
        end

        function withdrawn = cancel(rig, request)
            % WITHDRAWN = RIG.CANCEL(REQUEST)
            % Gives a request up. true: no worker had accepted it, and nothing will be sent; false: it is carried out,
            % and its answer discarded.
            withdrawn = rig.check(invoke('iblb_cancel', rig.handle, rig.known(request))) == 0;
        end

        function subscribe(rig, varargin)
            % RIG.SUBSCRIBE('EXPINTERRUPT', 'SERVICE_DOWN', ...)
            % Chooses the events that next_event gives; replaces the earlier choice. By name or number: messages that
            % services send by themselves, and the worker's events. None at all: every event; 0: none.
            mask = 0;
            if isempty(varargin)
                varargin = setdiff(fieldnames(iblbridge.messages)', {'PING', 'SERVICES'});
            end
            for i = 1:numel(varargin)
                mask = bitor(mask, number_of(varargin{i}));
            end
            rig.check(invoke('iblb_subscribe', rig.handle, mask));
        end

        function event = next_event(rig, timeout_ms)
            % EVENT = RIG.NEXT_EVENT(TIMEOUT_MS)
            % The next event, as a struct; [] if there was none in time (1000). Its fields: sequence (a gap says that
            % some were lost), event ('EXPINTERRUPT'), service, client, data, time, wall.
            if nargin < 2, timeout_ms = 1000; end
            look = @(slice) event_of(rig.handle, slice);
            found = patiently(look, milliseconds_of(timeout_ms), iblbridge.codes.E_TIMEOUT);
            event = [];
            if found{1} ~= iblbridge.codes.E_TIMEOUT
                rig.check(found{1});
                event = read(found{2});
            end
        end

        function serve(rig, service, messages)
            % RIG.SERVE(SERVICE, MESSAGES)
            % From now on this rig gets what masters ask of a listener of the worker (iblbridge serve --listen
            % cameras=...), in place of what it served before. SERVICE: its name, '' for the only one there is.
            % MESSAGES: what the program wants to be asked, a cell array of names or their sum; left out: EXPINIT,
            % EXPSTART, EXPEND, EXPCLEANUP and EXPINTERRUPT; {} or 0: it serves no more. What is not among them the
            % worker answers itself, as EXPSTATUS and EXPINFO: from what the program last said.
            if nargin < 2, service = ''; end
            if nargin < 3, messages = {'EXPINIT', 'EXPSTART', 'EXPEND', 'EXPCLEANUP', 'EXPINTERRUPT'}; end
            if ischar(messages) || isa(messages, 'string'), messages = cellstr(messages); end
            if isnumeric(messages), messages = num2cell(messages); end
            mask = 0;
            for i = 1:numel(messages)
                mask = bitor(mask, number_of(messages{i}));
            end
            rig.check(invoke('iblb_serve', rig.handle, char(service), mask));
        end

        function command = next_command(rig, timeout_ms)
            % COMMAND = RIG.NEXT_COMMAND(TIMEOUT_MS)
            % The next thing that a master asks, an EXPINTERRUPT before all others, as an iblbridge_command, to be
            % answered once; [] if nothing was asked in time (1000). Waits for a worker, too, if there is none. One
            % thing is asked at a time, and an EXPINTERRUPT beside it: look for that with RIG.NEXT_COMMAND(0) while a
            % command takes long.
            if nargin < 2, timeout_ms = 1000; end
            codes = iblbridge.codes;
            look = @(slice) command_of(rig.handle, slice);
            found = patiently(look, milliseconds_of(timeout_ms), [codes.E_TIMEOUT, codes.E_NO_WORKER]);
            command = [];
            if ~any(found{1} == [codes.E_TIMEOUT, codes.E_NO_WORKER])
                rig.check(found{1});
                asked = read(found{2});
                asked.args = listed(asked.args);
                rig.interrupts = rig.interrupts + strcmp(asked.message, 'EXPINTERRUPT');
                command = iblbridge_command(rig, asked);
            end
        end

        function tell(rig, message, data)
            % RIG.TELL(MESSAGE, DATA)
            % Says something without having been asked: 'EXPINTERRUPT' (a camera died: its masters hear so),
            % 'EXPSTATUS' (with 'STOPPED', 30, ...: what the program does from now on), 'EXPINFO' (what the worker
            % answers to it). DATA: a struct, or another value as in a command's answer; [] or left out: none.
            if nargin < 3, data = []; end
            number = number_of(message);
            if number == iblbridge.messages.EXPSTATUS && (ischar(data) || isa(data, 'string'))
                data = status_of(data);
            end
            rig.check(invoke('iblb_tell', rig.handle, number, encode_data(data)));
        end

        function state = worker_state(rig)
            % STATE = RIG.WORKER_STATE()
            % Whether a worker lives (alive), how many services it has, how many of them have answered within the last
            % 30 s (services_up; 0 if the rig was idle that long).
            [status, alive, services, services_up] = invoke('iblb_worker_state', rig.handle);
            rig.check(status);
            state = struct('alive', logical(alive), 'services', services, 'services_up', services_up);
        end

        function sentence = last_error(rig)
            % SENTENCE = RIG.LAST_ERROR()
            % The sentence of the last error or warning of this rig; '' if there was none.
            sentence = sentence_of(rig.handle);
        end

        function close(rig)
            % RIG.CLOSE()
            % Gives the slot back. Calling it twice is harmless.
            rig.finish('iblb_close');
        end

        function abandon(rig)
            % RIG.ABANDON()
            % As close, but says that the work is not done: to the worker this client is lost. The same happens when the
            % last variable with this rig goes, whether it is cleared or lost to an error.
            rig.finish('iblb_abandon');
        end

        function delete(rig)
            rig.abandon();
        end
    end

    methods (Hidden)
        function in_time = end_command(rig, number, status, said)
            % For iblbridge_command: answers, or fails if STATUS is 'failed'. False: too late.
            if strcmp(status, 'failed')
                status = invoke('iblb_fail', rig.handle, number, sentence_to_c(said));
            else
                status = invoke('iblb_answer', rig.handle, number, status_of(status), encode_data(said));
            end
            in_time = status ~= iblbridge.codes.E_LATE;
            if in_time
                rig.check(status);
            else
                rig.last_status = status;
            end
        end
    end

    methods (Static)
        function text = error_text(code)
            % TEXT = IBLBRIDGE.ERROR_TEXT(CODE)
            % What a code means and what to do.
            [status, text] = invoke('iblb_error_text', code, 1024);
            if status < 0
                error('iblbridge:ARGUMENT', 'There is no code %g.', code);
            end
        end

        function code = code_of(err)
            % CODE = IBLBRIDGE.CODE_OF(ERR)
            % The number of a caught error, or of an identifier or a name as text: 'iblbridge:TIMEOUT', 'TIMEOUT',
            % 'E_TIMEOUT'. 0 if it is not one of iblbridge's.
            text = err;
            if ~(ischar(err) || isa(err, 'string')), text = err.identifier; end
            name = regexprep(char(text), '^iblbridge:', '');
            found = intersect({name, ['E_', name]}, fieldnames(iblbridge.codes));
            code = 0;
            if ~isempty(found)
                code = iblbridge.codes.(found{1});
            elseif ~isempty(name) && ~any(char(text) == ':')
                error('iblbridge:ARGUMENT', 'There is no code %s; see iblbridge.codes.', name);
            end
        end

        function ns = clock_ns()
            % NS = IBLBRIDGE.CLOCK_NS()
            % The clock of all stamps, ns.
            [~, ns] = invoke('iblb_clock_ns');
        end

        function number = version()
            % NUMBER = IBLBRIDGE.VERSION()
            % The version of the library: 10203 means 1.2.3.
            number = invoke('iblb_version');
        end
    end

    methods (Access = private, Hidden)
        function finish(rig, name)
            % Gives the slot back in one of two ways, if that was not done yet.
            if rig.handle
                invoke(name, rig.handle);
                rig.handle = 0;
            end
        end

        function post(rig, name, message, args, services, ttl_ms)
            % Writes a command; the request it makes, if any, is last_request.
            given = {names_of(services), number_of(message), encode(args), lifetime(ttl_ms)};
            rig.last_response = [];
            rig.last_request = NaN; % until it is known: Ctrl-C is no error that could be caught
            try
                found = outputs(1 + strcmp(name, 'iblb_send'), name, rig.handle, given{:});
            catch err % nothing was sent
                rig.last_request = 0;
                rethrow(err);
            end
            rig.last_request = sum([found{2:end}]);
            rig.check(found{1});
        end

        function request = known(rig, request)
            % The number of a request; an error if Ctrl-C came before anybody knew it.
            request = double(request);
            if isscalar(request) && isnan(request)
                rig.check(iblbridge.codes.E_OUTCOME_UNKNOWN, ['Ctrl-C came while the command was sent, and nobody ', ...
                    'knows its number. Ask EXPSTATUS before you repeat it.']);
            end
        end

        function status = await(rig, request, timeout_ms)
            % Waits for a response, which becomes last_response.
            rig.last_response = [];
            rig.last_request = request;
            look = @(slice) text_of('iblb_wait', rig.handle, request, slice);
            found = patiently(look, timeout_ms, iblbridge.codes.E_TIMEOUT);
            rig.last_response = decode(found{2});
            status = found{1};
        end

        function take_back(rig, status)
            % Ends a call without a response; an error unless the request is gone or answered already.
            codes = iblbridge.codes;
            left = invoke('iblb_withdraw', rig.handle, rig.last_request);
            if left == codes.W_ACCEPTED && status == codes.E_NO_WORKER
                rig.check(codes.E_PENDING, ['The worker died with the command. Start it again and wait for the ', ...
                    'same request; do not repeat the command.']);
            elseif left == codes.W_ACCEPTED
                rig.check(codes.E_PENDING, iblbridge.error_text(codes.E_PENDING));
            elseif left == codes.OK
                rig.last_request = 0;
                if status == codes.E_TIMEOUT
                    rig.check(codes.E_NOT_SENT, iblbridge.error_text(codes.E_NOT_SENT));
                end
                rig.check(status, ['No worker serves the segment. The command was withdrawn; nothing was sent. ', ...
                    'Start the worker.']);
            end
        end

        function status = check(rig, status, sentence)
            % The only place where a status becomes an error.
            rig.last_status = status;
            if status < 0
                if nargin < 3, sentence = sentence_of(rig.handle); end
                names = fieldnames(iblbridge.codes);
                name = [names{structfun(@(code) code == status, iblbridge.codes)}];
                error(['iblbridge:', name(3:end)], '%s', sentence);
            end
        end
    end
end

function found = patiently(look, timeout_ms, again)
    % Calls look(milliseconds) until its status is none of `again` or the time is up; in slices, so that
    % Ctrl-C works.
    started = tic;
    left = double(timeout_ms);
    while true
        found = look(ceil(min(left, 200)));
        left = timeout_ms - 1000 * toc(started);
        if ~(left > 0 && any(found{1} == again)), return; end
    end
end

function ms = milliseconds_of(ms)
    % Milliseconds to wait; Inf is allowed.
    if ~(isnumeric(ms) && isscalar(ms) && ms >= 0)
        error('iblbridge:ARGUMENT', 'timeout_ms is a number of milliseconds, 0 or more.');
    end
    ms = double(ms);
end

function ms = lifetime(ms)
    % Milliseconds to live, as the library takes them.
    if ~(isnumeric(ms) && isscalar(ms) && ~isnan(ms))
        error('iblbridge:ARGUMENT', 'ttl_ms is a number of milliseconds; 0: 10 s, negative: no limit.');
    end
    ms = max(min(ceil(double(ms)), 2147483647), -1);
end

function names = names_of(services)
    % The names of services with commas between; a list must name some.
    list = cellstr(services);
    if isempty(list) || (iscell(services) && any(cellfun(@isempty, strtrim(list))))
        error('iblbridge:ARGUMENT', 'The list of services is empty, or a name in it. Leave it out to reach all.');
    end
    names = strjoin(list, ',');
end

function number = number_of(message)
    % The number of a message or event.
    number = message;
    if isnumeric(message) && ~(isscalar(message) && message == fix(message))
        error('iblbridge:MESSAGE', 'The number of a message must be an integer.');
    elseif ~isnumeric(message)
        if ~isfield(iblbridge.messages, char(message))
            names = strjoin(fieldnames(iblbridge.messages)', ', ');
            error('iblbridge:MESSAGE', 'There is no message %s; there are %s.', char(message), names);
        end
        number = iblbridge.messages.(char(message));
    end
    number = double(number);
end

function [args, options] = parse(options, given)
    % The arguments of a message and the options after them.
    args = [];
    if ~isempty(given), args = given{1}; end
    for i = 2:2:numel(given)
        if i == numel(given) || ~isfield(options, char(given{i}))
            names = strjoin(fieldnames(options)', ', ');
            error('iblbridge:ARGUMENT', 'After the arguments come pairs of name and value: %s.', names);
        end
        options.(char(given{i})) = given{i + 1};
    end
end

function json = encode(args)
    % The arguments as the text of a JSON array; '' for none.
    json = '';
    if isnumeric(args) && isempty(args), return; end
    if ~iscell(args), args = {args}; end
    json = json_of(args);
end

function json = encode_data(data)
    % The data of an answer as JSON; '' for none.
    json = '';
    if ~(isnumeric(data) && isempty(data)), json = json_of(data); end
end

function json = json_of(value)
    json = regexprep(jsonencode(sayable(value)), '"\\u0001(-?\d+)\\u0001"', '$1');
    if ~is_octave() % MATLAB's characters are UTF-16, and go to C in the system's code page
        for character = unique(json(json > 127))
            json = strrep(json, character, sprintf('\\u%04x', double(character)));
        end
    end
end

function sentence = sentence_to_c(sentence)
    % MATLAB's calllib gives C the system's code page, and a sentence has no escapes.
    sentence = char(sentence);
    if ~is_octave() && exist('iblbridge_mex', 'file') ~= 3, sentence(sentence > 127) = '?'; end
end

function number = status_of(status)
    % The number of what a program does now, from its name or number; -1 for [], what is usual after a message.
    number = status;
    if isnumeric(status) && isempty(status)
        number = -1;
    elseif ischar(status) || isa(status, 'string')
        if ~isfield(iblbridge.statuses, char(status))
            names = strjoin(fieldnames(iblbridge.statuses)', ', ');
            error('iblbridge:ARGUMENT', 'There is no status %s; there are %s.', char(status), names);
        end
        number = iblbridge.statuses.(char(status));
    elseif ~(isnumeric(status) && isscalar(status))
        error('iblbridge:ARGUMENT', 'A status is a name, a number or []; data come after it.');
    end
    number = double(number);
end

function list = listed(args)
    % The arguments of a command as a row of cells, however jsondecode has put them together.
    list = args;
    if ischar(args)
        list = {args};
    elseif ~iscell(args)
        list = num2cell(args, 2:max(ndims(args), 2));
        if isfloat(args) && iscolumn(args), list(isnan(args)) = {[]}; end % null
    end
    list = reshape(list, 1, []);
end

function value = sayable(value)
    % A value that jsonencode says exactly: whole numbers beyond 2^53 as marked text. Refuses what JSON cannot express.
    if iscell(value)
        value = cellfun(@sayable, value, 'UniformOutput', false);
    elseif isstruct(value)
        names = fieldnames(value);
        for i = 1:numel(value)
            for j = 1:numel(names)
                value(i).(names{j}) = sayable(value(i).(names{j}));
            end
        end
    elseif isa(value, 'containers.Map') && value.Count > 0
        value = containers.Map(keys(value), cellfun(@sayable, values(value), 'UniformOutput', false), 'UniformValues', false);
    elseif isnumeric(value)
        wrong = '';
        if ~isreal(value)
            wrong = 'a complex number';
        elseif any(isnan(value(:)))
            wrong = 'NaN';
        elseif any(isinf(value(:)))
            wrong = 'Inf';
        end
        if ~isempty(wrong)
            error('iblbridge:ARGUMENT', 'JSON cannot express %s; send text or a number instead.', wrong);
        end
        if (isa(value, 'int64') || isa(value, 'uint64'))
            value = whole(value);
        end
    end
end

function value = whole(value)
    % Integers of 64 bits as doubles, and those that are none as marked text.
    if all(value(:) <= 2 ^ 53) && all(value(:) >= -2 ^ 53)
        value = double(value);
    elseif isscalar(value)
        digits = sprintf('%d', value);
        if value > intmax('int64') % which Octave's sprintf does not know
            low = mod(value, uint64(1e15));
            digits = sprintf('%d%015d', (value - low) / uint64(1e15), low);
        end
        value = [char(1), digits, char(1)];
    elseif isvector(value)
        value = cellfun(@whole, num2cell(reshape(value, 1, [])), 'UniformOutput', false);
    else
        value = cellfun(@(row) whole(row), num2cell(value, 2), 'UniformOutput', false);
    end
end

function value = read(json)
    % JSON as jsondecode reads it, but whole numbers beyond 2^53 as int64 or uint64; stamps are doubles in any case.
    if isempty(regexp(json, '\d{16}', 'once'))
        value = jsondecode(json);
        return
    end
    text = '"[^"\\]*+(?:\\.[^"\\]*+)*+"';
    number = '-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?';
    [tokens, between] = regexp(json, [text, '|', number], 'match', 'split');
    for i = 1:numel(tokens)
        tokens{i} = regexprep(tokens{i}, '^(-?\d{16})\.0$', '$1'); % which Octave would round
        if ~isempty(regexp(tokens{i}, '^-?\d{16,}$', 'once')) && abs(str2double(tokens{i})) >= 2 ^ 53
            tokens{i} = ['"\u0001', tokens{i}, '\u0001"'];
        end
    end
    parts = [between; [tokens, {''}]];
    value = unmarked(jsondecode([parts{:}]));
    value = stamped(value);
    if isfield(value, 'services') && isstruct(value.services)
        for i = 1:numel(value.services)
            value.services(i) = stamped(value.services(i));
        end
    end
end

function value = unmarked(value)
    if iscell(value)
        value = cellfun(@unmarked, value, 'UniformOutput', false);
    elseif isstruct(value)
        names = fieldnames(value);
        for i = 1:numel(value)
            for j = 1:numel(names)
                value(i).(names{j}) = unmarked(value(i).(names{j}));
            end
        end
    elseif ischar(value) && numel(value) > 2 && value(1) == char(1) && value(end) == char(1)
        digits = value(2:end - 1);
        sign = 1;
        kind = 'uint64';
        if digits(1) == '-', sign = -1; digits = digits(2:end); end
        if sign < 0 || numel(digits) < 19 || (numel(digits) == 19 && issorted({digits, '9223372036854775807'}))
            kind = 'int64';
        end
        value = feval(kind, 0);
        for digit = digits - '0'
            value = value * 10 + sign * digit;
        end
    end
end

function entry = stamped(entry)
    for key = {'sent', 'accepted', 'finished', 'echoed', 'answered', 'time'}
        if isfield(entry, key{1}), entry.(key{1}) = double(entry.(key{1})); end
    end
end

function response = decode(json)
    % A response as a struct whose services are a struct array whatever there is in them; [] if there is none.
    response = [];
    if isempty(json), return; end
    response = read(json);
    if isempty(response.services)
        none = cell(1, 0);
        response.services = struct('name', none, 'ok', none, 'state', none, 'reason', none, 'error', none, ...
            'data', none, 'status', none, 'sent', none, 'echoed', none, 'answered', none);
    end
    if ~isfield(response.services, 'reason') % a worker of an older version
        [response.services.reason] = deal('');
        [response.services.status] = deal(-1);
    end
    response.services = reshape(response.services, 1, []);
end

function found = text_of(name, varargin)
    % {status, text} of a function whose last outputs are a text and the size that it needs.
    needed = 65536;
    codes = iblbridge.codes;
    status = codes.E_BUFFER;
    while status == codes.E_BUFFER
        [status, text, needed] = invoke(name, varargin{:}, needed);
    end
    found = {status, text};
end

function found = event_of(handle, slice)
    needed = 65536;
    codes = iblbridge.codes;
    status = codes.E_BUFFER;
    while status == codes.E_BUFFER
        [status, ~, text, needed] = invoke('iblb_next_event', handle, slice, needed);
    end
    found = {status, text};
end

function found = command_of(handle, slice)
    needed = 65536;
    codes = iblbridge.codes;
    status = codes.E_BUFFER;
    while status == codes.E_BUFFER
        [status, ~, ~, text, needed] = invoke('iblb_next_command', handle, slice, needed);
    end
    found = {status, text};
end

function sentence = sentence_of(handle)
    % The sentence of the last error, whose \uXXXX are made characters.
    [~, sentence] = invoke('iblb_last_error', handle, 1025);
    [escapes, rest] = regexp(sentence, '(?:\\u[0-9a-f]{4})+', 'match', 'split');
    characters = cellfun(@(text) jsondecode(['"', text, '"']), escapes, 'UniformOutput', false);
    sentence = strjoin(rest, characters);
end

function found = outputs(count, name, varargin)
    % The outputs of a function, as a cell array.
    found = cell(1, count);
    [found{:}] = invoke(name, varargin{:});
end

function varargout = invoke(name, varargin)
    % [status, outputs ...] of a function of iblbridge.h: in go the parameters that are no outputs; out comes
    % what it writes.
    persistent library by_mex
    if isempty(library)
        found = find_library();
        by_mex = exist('iblbridge_mex', 'file') == 3;
        if by_mex
            iblbridge_mex(found, 'iblb_version');
        elseif is_octave() && ~exist('calllib', 'file')
            more = ' -ldl';
            if ispc, more = ''; end
            error('iblbridge:library', 'iblbridge_mex is not compiled. In %s: mkoctfile --mex iblbridge_mex.c%s', ...
                folder(), more);
        end
        library = found;
    end
    if by_mex
        [varargout{1:max(nargout, 1)}] = iblbridge_mex(library, name, varargin{:});
    else
        [varargout{1:max(nargout, 1)}] = through_calllib(library, name, varargin);
    end
end

function varargout = through_calllib(library, name, inputs)
    % The same with MATLAB's loadlibrary. A pointer is given by value, and calllib returns what all of them
    % point at in the end, those that only go in too.
    if ~libisloaded('iblbridge')
        try
            loadlibrary(library, fullfile(folder(), 'iblbridge.h'), 'alias', 'iblbridge');
        catch err
            refuse_library(sprintf('%s: %s', library, err.message));
        end
    end
    signature = iblbridge.signatures.(name);
    values = cell(1, numel(signature));
    next = 1;
    for i = 1:numel(signature)
        switch signature(i)
            case 't'
                values{i} = inputs{next};
            case 'i'
                values{i} = int32(inputs{next});
            case 'T'
                values{i} = blanks(double(inputs{next})); % the capacity comes next
            case 'I'
                values{i} = int32(0);
            case 'D'
                values{i} = 0;
        end
        next = next + any(signature(i) == 'ti');
    end
    pointers = signature(signature ~= 'i');
    results = cell(1, 1 + numel(pointers));
    [results{:}] = calllib('iblbridge', name, values{:});
    results = results([true, pointers ~= 't']);
    for i = 1:numel(results)
        if isnumeric(results{i}), results{i} = double(results{i}); end
    end
    varargout = results;
end

function place = find_library()
    % The path of the shared library: what IBLBRIDGE_LIBRARY names, if it is set, else the one beside this file.
    name = 'libiblbridge.so';
    if ispc, name = sprintf('iblbridge_%d.dll', bits()); end
    if ismac, name = 'libiblbridge.dylib'; end
    given = getenv('IBLBRIDGE_LIBRARY');
    place = given;
    if isempty(given), place = fullfile(folder(), name); end
    kind = exist(place, 'file');
    if any(kind == [2, 3]), return; end % a DLL was a MEX file once
    what = 'is not there';
    if kind == 7, what = 'is a folder'; end
    advice = sprintf('Copy %s there, or set IBLBRIDGE_LIBRARY (not set) to its absolute path.', name);
    if ~isempty(given)
        advice = sprintf(['IBLBRIDGE_LIBRARY names it: set that to the absolute path of %s, or copy the file to ', ...
            '%s and unset it.'], name, folder());
    end
    refuse_library(sprintf('%s %s. %s', place, what, advice));
end

function refuse_library(why)
    error('iblbridge:library', 'The library of iblbridge for %d-bit programs cannot be loaded: %s', bits(), why);
end

function count = bits()
    count = 32;
    if any(strfind(computer('arch'), '64')), count = 64; end
end

function place = folder()
    place = fileparts(mfilename('fullpath'));
end

function yes = is_octave()
    yes = exist('OCTAVE_VERSION', 'builtin') ~= 0;
end
