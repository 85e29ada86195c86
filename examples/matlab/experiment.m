function status = experiment(segment, reference, client)
    % EXPERIMENT  A whole experiment from MATLAB or Octave: what an acquisition program does, without the acquisition.
    %
    %     experiment('rig0', '2026-01-01_1_subject', 'experiment');
    %
    % Prepares and starts all services, watches for a while whether one of them gives up, asks what they do, and ends
    % the experiment. If a service fails, the others are stopped, and it says who failed and why. README.md tells how
    % to run it. Returns 0 if all went well, else 1.

    if nargin < 2, reference = '2026-01-01_1_subject'; end
    if nargin < 3, client = 'experiment'; end
    status = 1;
    try
        rig = iblbridge(segment, client);
    catch err
        complain(err.message, iblbridge.code_of(err));
        return
    end
    if rig.last_status > 0 % a warning: no worker is there
        complain(rig.last_error(), rig.last_status);
    else
        rig.subscribe('EXPINTERRUPT');
        status = double(~session(rig, reference));
    end
    rig.close(); % in order; without it, as after an error that nobody catches, this client is lost
end

function fine = session(rig, reference)
    % All of the experiment; whether all went well.
    fine = false;
    if ~tell(rig, 'EXPINIT'), return; end
    fine = tell(rig, 'EXPSTART', reference);
    if fine
        watch(rig);
        fine = ask(rig, 'EXPSTATUS') && tell(rig, 'EXPINFO') && tell(rig, 'EXPEND');
    end
    if ~fine % a camera may run, even if no answer came
        tell(rig, 'EXPINTERRUPT');
        return
    end
    fine = tell(rig, 'EXPCLEANUP');
end

function fine = tell(rig, message, varargin)
    % Sends a command to all services, waits until each has done it, and says what became of it.
    fine = false;
    try
        show(message, rig.call(message, varargin{:}));
        fine = true;
    catch err
        failed(rig, message, err);
    end
end

function fine = ask(rig, message)
    % Asks something that is given up if the answer takes more than 100 ms.
    fine = true;
    request = rig.send(message);
    try
        show(message, rig.wait(request, 100));
    catch err
        if strcmp(err.identifier, 'iblbridge:TIMEOUT')
            rig.cancel(request);
            say('%s: cancelled\n', message);
        else
            failed(rig, message, err);
            fine = false;
        end
    end
end

function watch(rig)
    % Here the animal works, for a second; returns early if a service gives up.
    finish = iblbridge.clock_ns() + 1e9;
    while iblbridge.clock_ns() < finish
        event = rig.next_event(200);
        if ~isempty(event)
            say('event %s from %s\n', event.event, event.service);
            return
        end
    end
end

function show(message, response)
    if response.code > 0 % such as W_STATUS: a service was told EXPEND, and says that it still runs
        say('%s: warning (%d): %s\n', message, response.code, response.error);
    else
        say('%s: done\n', message);
    end
    services(response);
end

function failed(rig, message, err)
    if ~strncmp(err.identifier, 'iblbridge:', 10), rethrow(err); end
    say('%s: failed (%d): %s\n', message, iblbridge.code_of(err), err.message);
    if ~isempty(rig.last_response), services(rig.last_response); end
end

function services(response)
    % A line for each service: what it did, or what it said.
    for service = response.services
        if ~isempty(service.error)
            say('  %s: %s, %s\n', service.name, service.state, service.error);
        elseif strcmp(response.message, 'EXPINFO') && service.status >= 0
            say('  %s: status %d, %s\n', service.name, service.status, reference(service.data));
        else
            say('  %s: %s\n', service.name, service.state);
        end
    end
end

function complain(sentence, code)
    if code, sentence = sprintf('%s (%d)', sentence, code); end % 0: the bridge could not even be loaded
    fprintf(2, '%s\n', sentence);
end

function say(varargin)
    fprintf(varargin{:});
    if exist('OCTAVE_VERSION', 'builtin'), fflush(1); end % MATLAB does this by itself
end

function text = reference(data)
    % The experiment it belongs to; a service may say anything about itself.
    text = 'no experiment';
    if isfield(data, 'info') && isfield(data.info, 'exp_ref') && ischar(data.info.exp_ref)
        text = data.info.exp_ref;
    end
end
