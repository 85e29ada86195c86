% ends.m: what test_ends.py asks of every client, with the one for MATLAB and Octave.
function ends()
    rig = iblbridge('rig0', 'closed'); rig.close();
    rig = iblbridge('rig0', 'abandoned'); rig.abandon();
    rig = iblbridge('rig0', 'forgotten'); clear rig
    try
        throws();
    catch
    end
    left = iblbridge('rig0', 'left'); %#ok
    exit(0);
end

function throws()
    rig = iblbridge('rig0', 'thrown'); %#ok
    error('stop');
end
