function varargout = calllib(alias, name, varargin)
    % Stands in for MATLAB's calllib, see loadlibrary.m. As many arguments as parameters; a pointer is given by value;
    % returned are the status as a double and what every pointer points at in the end, those that only go in too; a
    % text that comes out has the room of the text that went in. Anything else is an error.
    global loaded_libraries
    library = loaded_libraries.(alias);
    types = library.functions.(name);
    assert(numel(varargin) == numel(types), 'calllib: %s takes %d arguments', name, numel(types));
    inputs = {};
    for i = 1:numel(types)
        value = varargin{i};
        switch types{i}
            case 'int32'
                assert(isa(value, 'int32') && isscalar(value), 'calllib: argument %d of %s is no int32', i, name);
                inputs{end + 1} = double(value);
            case {'text in', 'text out'}
                is_text = ischar(value) && (isempty(value) || isrow(value));
                assert(is_text, 'calllib: argument %d of %s is no text', i, name);
                if strcmp(types{i}, 'text in')
                    inputs{end + 1} = value;
                else
                    fits = varargin{i + 1} <= numel(value) + 1;
                    assert(fits, 'calllib: %s would write behind the end of a text', name);
                end
            case {'int32Ptr', 'doublePtr'}
                is_number = isa(value, strrep(types{i}, 'Ptr', '')) && isscalar(value);
                assert(is_number, 'calllib: argument %d of %s is no %s', i, name, types{i});
            otherwise
                error('calllib: argument %d of %s has a type that is unknown here', i, name);
        end
    end
    pointers = find(~strcmp(types, 'int32'));
    assert(nargout <= 1 + numel(pointers), 'calllib: %s returns %d values', name, 1 + numel(pointers));
    out = pointers(~strcmp(types(pointers), 'text in'));
    results = cell(1, 1 + numel(out));
    [results{:}] = calllib_gateway(library.path, name, inputs{:});
    varargout = [results(1), varargin(pointers)];
    for i = 1:numel(out)
        at = 1 + find(pointers == out(i));
        varargout{at} = results{1 + i};
        if strcmp(types{out(i)}, 'int32Ptr'), varargout{at} = int32(varargout{at}); end
    end
end
