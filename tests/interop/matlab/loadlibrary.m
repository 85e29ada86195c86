function loadlibrary(library, header, option, alias)
    % Stands in for MATLAB's loadlibrary, under Octave: reads the prototypes of a header, as far as iblbridge.h needs
    % it.
    %
    % With libisloaded.m and calllib.m it holds a caller to what MATLAB documents: the types of arguments, and what is
    % returned. The library itself is called through the compiled iblbridge_mex.c, which is here under the name
    % calllib_gateway.
    global loaded_libraries
    assert(strcmp(option, 'alias') && exist(library, 'file') == 2, 'loadlibrary: there is no %s', library);
    types = {'const char', 'text in'; 'char', 'text out'; 'int', 'int32Ptr'; 'double', 'doublePtr'};
    code = regexprep(fileread(header), '/\*.*?\*/', ' ');
    functions = struct();
    for prototype = regexp(code, '\<int\s+(iblb_\w+)\(([^)]*)\);', 'tokens')
        parameters = strtrim(strsplit(prototype{1}{2}, ','));
        letters = {};
        for i = 1:numel(parameters)
            pointer = regexp(parameters{i}, '^([\w ]+?)\s*\*\w+$', 'tokens', 'once');
            if ~isempty(pointer)
                found = strcmp(types(:, 1), pointer{1});
                letters{end + 1} = [types{found, 2}]; % '' for what is not used
            elseif ~strcmp(parameters{i}, 'void')
                letters{end + 1} = 'int32';
            end
        end
        functions.(prototype{1}{1}) = letters;
    end
    loaded_libraries.(alias) = struct('path', library, 'functions', functions);
end
