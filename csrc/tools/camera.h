/* camera.h: iblb as a camera that is none, for trying out what masters ask of a program. */
#ifndef IBLB_CAMERA_H
#define IBLB_CAMERA_H

/* Serves `listener` (NULL: the only one there is) until a signal or the end of the segment. Prints each command. Returns the code that
 * ended it: IBLB_OK after a signal, IBLB_E_STALE if the segment was removed. */
int play_camera(int handle, const char *listener);

#endif
