% together.m: one of several programs on one segment. SEGMENT CLIENT COUNT
%
% Subscribes to EXPINTERRUPT and says "ready"; starts experiments <CLIENT>-0, -1, ... and counts the answers that are
% its own, from both services; waits for an event and says who sent it.
args = argv();
client = args{2};
rig = iblbridge(args{1}, client, 5000);
rig.subscribe('EXPINTERRUPT');
disp('ready');
fflush(stdout);
right = 0;
for i = 1:str2double(args{3})
    reference = sprintf('%s-%d', client, i - 1);
    response = rig.call('EXPSTART', reference, 'timeout_ms', 20000);
    values = arrayfun(@(service) service.data.value(1), response.services);
    right = right + isequal(values, {reference, reference});
end
event = rig.next_event(10000);
if isempty(event)
    error('No event came.');
end
printf('%s %d %s\n', client, right, event.service);
rig.close();
