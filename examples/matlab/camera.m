function camera(segment, service, warm_up, dies_after)
    % CAMERA  A simulated camera that masters command: your program as a service. Put your device in its place.
    %
    %     camera('rig0', 'cameras', warm_up_s, dies_after_s);
    %
    % EXPINIT warms it up, EXPSTART begins a file, EXPEND ends it and says how many frames are in it, EXPINTERRUPT stops
    % it at once, also while it warms up. With dies_after_s it dies in the middle of a recording, and says so. Ctrl-C
    % ends it. README.md tells how to run it.

    if nargin < 2, service = ''; end
    if nargin < 3, warm_up = 0.1; end
    if nargin < 4, dies_after = 0; end
    rig = iblbridge(segment, 'camera');
    at_the_end = onCleanup(@() rig.close()); %#ok<NASGU> in order, also after Ctrl-C
    rig.serve(service);
    if isempty(service), say('serving the listener at %s\n', segment); else, say('serving %s at %s\n', service, segment); end
    state = struct('warm_up', warm_up, 'dies_after', dies_after, 'warming', [], 'warm_at', 0, 'is_warm', false, ...
        'records', false, 'since', 0, 'frames', 0);
    while true
        command = rig.next_command(20); % and look after the camera in between
        if ~isempty(command), state = obey(state, command); end
        state = live(state, rig);
    end
end

function state = obey(state, command)
    % Does what a master asks at once, or keeps the command until it is done.
    say('%s from %s\n', command.message, command.master);
    if strcmp(command.message, 'EXPINTERRUPT') && ~isempty(state.warming)
        report(state.warming, state.warming.fail('An EXPINTERRUPT overtook this EXPINIT.'));
        state.warming = [];
    end
    if strcmp(command.message, 'EXPINIT')
        state.warming = command;
        state.warm_at = seconds() + state.warm_up;
    elseif strcmp(command.message, 'EXPSTART')
        report(command, command.attempt(@() start(state, command)));
        state.records = isempty(command.error);
        state.since = seconds();
    else % EXPEND, EXPINTERRUPT, EXPCLEANUP
        state = stop(state);
        report(command, command.answer([], struct('frames', state.frames)));
    end
end

function data = start(state, command)
    if ~state.is_warm, error('camera:cold', 'The camera is cold. Send EXPINIT first.'); end
    data = struct('file', [command.args{1}, '.avi']);
end

function state = stop(state)
    if state.records, state.frames = floor(100 * (seconds() - state.since)); end
    state.records = false;
end

function state = live(state, rig)
    % What goes on while nothing is asked.
    if ~isempty(state.warming) && seconds() >= state.warm_at
        state.is_warm = true;
        report(state.warming, state.warming.answer());
        state.warming = [];
    end
    if state.records && state.dies_after > 0 && seconds() >= state.since + state.dies_after
        state = stop(state);
        state.is_warm = false;
        rig.tell('EXPINTERRUPT', struct('why', 'The camera died.', 'frames', state.frames));
    end
end

function report(command, in_time)
    % What became of a command.
    words = 'done';
    if ~in_time
        words = 'too late, its master was told that it failed';
    elseif ~isempty(command.error)
        words = ['failed, ', command.error];
    end
    say('%s: %s\n', command.message, words);
end

function s = seconds()
    s = iblbridge.clock_ns() / 1e9;
end

function say(varargin)
    fprintf(varargin{:});
    if exist('OCTAVE_VERSION', 'builtin'), fflush(1); end % MATLAB does this by itself
end
