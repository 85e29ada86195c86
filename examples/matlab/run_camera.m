% Octave from a shell: octave-cli -qH run_camera.m SEGMENT [SERVICE [WARM_UP_S [DIES_AFTER_S]]]
args = argv();
args(3:end) = cellfun(@str2double, args(3:end), 'UniformOutput', false);
try
    camera(args{:});
catch err
    fprintf(2, '%s\n', err.message);
    exit(1);
end
