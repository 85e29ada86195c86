/* Ends.java: what test_ends.py asks of every client, with the Java one. */
import iblbridge.IblBridge;

public class Ends {
    public static void main(String[] words) throws Exception {
        new IblBridge("rig0", "closed").close();
        IblBridge.use("rig0", "closed", rig -> rig.call(IblBridge.PING));
        new IblBridge("rig0", "abandoned").abandon();
        try {
            IblBridge.use("rig0", "thrown", rig -> {
                throw new java.io.IOException("stop");
            });
        } catch (java.io.IOException error) {
            // as it should be
        }
        new IblBridge("rig0", "left");
        System.exit(0);
    }
}
