"""`python -m sim.ros_bridge --world flat:0`: the simulated robot as a process. Nothing else is here."""

import sys

from sim.ros_bridge.bridge import main

sys.exit(main())
