function yes = libisloaded(alias)
    % Stands in for MATLAB's libisloaded, see loadlibrary.m.
    global loaded_libraries
    yes = isfield(loaded_libraries, alias);
end
