classdef iblbridge_command < handle
    % IBLBRIDGE_COMMAND  What a master asks of a program that serves; iblbridge.next_command gives it.
    %
    %     command = rig.next_command(1000);
    %     if ~isempty(command)
    %         command.attempt(@() struct('frames', 5400));
    %     end
    %
    % It is to be answered once. If its last variable goes without an answer, it fails by itself, so that no master
    % waits. Keep it while your camera works, and answer it when that is done.

    properties (SetAccess = private)
        message = '';    % 'EXPSTART'
        args = {};       % the arguments, a row of cells
        service = '';    % the listener's name
        master = '';     % who asks: '192.168.0.3:55123'
        number = 0;      % at the library
        time = 0;        % when it reached the worker, ns of iblbridge.clock_ns
        wall = '';       % the same in ISO 8601
        timeout_ms = 0;  % so long after `time` the master is told that it failed
        is_open = false; % it was neither answered nor failed
        error = '';      % the sentence with which it failed
    end

    properties (Access = private)
        rig = [];
        seen = 0;
    end

    methods
        function command = iblbridge_command(rig, asked)
            % COMMAND = IBLBRIDGE_COMMAND(RIG, ASKED)
            % For iblbridge.next_command.
            command.rig = rig;
            command.seen = rig.interrupts;
            command.number = asked.command;
            for key = {'message', 'args', 'service', 'master', 'time', 'wall', 'timeout_ms'}
                command.(key{1}) = asked.(key{1});
            end
            command.is_open = true;
        end

        function in_time = answer(command, status, data)
            % IN_TIME = COMMAND.ANSWER(STATUS, DATA)
            % Says that it was done. STATUS: what the program does now ('RUNNING', 20, ...), [] or left out: what is
            % usual after this message. DATA: a struct that becomes part of the reply, or any other value; [] or left
            % out: none. False: too late, the master was told already that it failed. After an error it can be
            % answered again.
            if nargin < 2, status = []; end
            if nargin < 3, data = []; end
            in_time = command.rig.end_command(command.number, status, data);
            command.is_open = false;
        end

        function in_time = fail(command, sentence)
            % IN_TIME = COMMAND.FAIL(SENTENCE)
            % Says that it was not done, and why, for people. Returns as answer.
            in_time = command.rig.end_command(command.number, 'failed', sentence);
            command.is_open = false;
            command.error = char(sentence);
        end

        function in_time = attempt(command, work)
            % IN_TIME = COMMAND.ATTEMPT(WORK)
            % Calls WORK, a function without inputs whose output is the data of the answer ([]: none), and answers with
            % it. If WORK ends by an error, or an EXPINTERRUPT came meanwhile, the command fails, and `error` says why.
            % Returns as answer.
            in_time = true;
            try
                data = work();
                if command.is_open && command.interrupted()
                    in_time = command.fail(['An EXPINTERRUPT overtook this ', command.message, '.']);
                elseif command.is_open
                    in_time = command.answer([], data);
                end
            catch err
                if ~command.is_open, rethrow(err); end
                in_time = command.fail(err.message);
            end
        end

        function yes = interrupted(command)
            % YES = COMMAND.INTERRUPTED()
            % Whether next_command has given an EXPINTERRUPT since: what still goes on should end.
            yes = command.rig.interrupts ~= command.seen;
        end

        function delete(command)
            if command.is_open
                try % the rig may be closed: then its masters know
                    command.fail(['The program left ', command.message, ' without an answer.']);
                catch
                end
            end
        end
    end
end
