% Octave from a shell: octave-cli -qH run_experiment.m SEGMENT [YYYY-MM-DD_N_SUBJECT [CLIENT]]
args = argv();
exit(experiment(args{:}));
