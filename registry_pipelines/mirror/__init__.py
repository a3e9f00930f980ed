"""Cross into private networks: upstream images, and own releases, through a DMZ registry into the private one."""
