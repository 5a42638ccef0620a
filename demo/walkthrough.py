"""make demo: the real thing, step by step, in a throwaway machine that is gone afterwards.

Each step shows a command, what it printed and what that means, and is checked: the
first one that does not do what it says ends the demo with a failure.
"""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.machine import Machine, MachineError

COLOUR = sys.stdout.isatty() and "NO_COLOR" not in os.environ

VETH_DEMO = """\
VETH_IFADDR_OUTSIDE=10.0.0.1/24
VETH_IFADDR_INSIDE=10.0.0.2/24
"""

HELLO_SERVICE = """\
[Unit]
Requires=netns-veth@demo.service netns-nft@demo.service
After=netns-veth@demo.service netns-nft@demo.service
PartOf=netns-veth@demo.service

[Service]
NetworkNamespacePath=/run/netns/demo
DynamicUser=yes
WorkingDirectory=/usr/share/common-licenses
ExecStart=/usr/bin/python3 -m http.server 8000
"""

ADDRSET_DEMO = """\
own_table: yes
interfaces:
  - name: ve-*
    nftables_zone: inside
"""

NEXT = """\
What to try next, on a machine that you want to keep:

    sudo make install
    sudo netnsctl types veth     # its options, and an example for /etc/conf.d/netns/veth-NAME.conf
    sudo netnsctl check          # is the configuration right? with file, line and hint
    sudo netnsctl plan veth NAME # what would a start do?
    sudo netns-update            # after a new configuration file
    sudo systemctl enable --now netns-veth@NAME netns-nft@NAME
    sudo netnsctl types addrset  # sets that follow addresses, on the host too: netns-addrset@host

README.md has the tutorial; 'sudo make uninstall' takes everything away again but your configuration.
"""


class DemoError(Exception):
    """A step did not do what the demo says that it does."""


class Walkthrough:
    """The steps of one demo, in one machine."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine

    def chapter(self, title: str) -> None:
        print(_styled("\n" + title, "1;34"), flush=True)

    def file(self, meaning: str, path: str, text: str) -> None:
        """Write a file in the machine, and show it."""
        self._say(meaning)
        print(_styled(f"  {path}:", "1"))
        print(_styled(textwrap.indent(text.rstrip(), "    | "), "2"), flush=True)
        self.machine.write(path, text)

    def show(self, meaning: str, command: str, *, wants: str = "", fails: bool = False) -> None:
        """Run a command and show it; it must print ``wants``, and succeed unless ``fails``."""
        self._say(meaning)
        print(_styled(f"  # {command}", "1"), flush=True)
        done = self.machine.run(command, check=False)
        self._judge(command, done, wants, fails)

    def show_soon(self, meaning: str, command: str, *, wants: str) -> None:
        """Show a command that prints ``wants`` now or within a moment: somebody else works for it."""
        self._say(meaning)
        print(_styled(f"  # {command}", "1"), flush=True)
        self.machine.wait_until(
            lambda: wants in self.machine.run(command).stdout, what=f"{wants} in {command}"
        )
        self._judge(command, self.machine.run(command), wants)

    @staticmethod
    def _judge(command: str, done: subprocess.CompletedProcess[str], wants: str, fails: bool = False) -> None:
        output = done.stdout + done.stderr
        if output.strip():
            print(_styled(textwrap.indent(output.rstrip(), "    "), "2"), flush=True)
        if (done.returncode != 0) != fails:
            raise DemoError(f"'{command}' ended with status {done.returncode}")
        if wants not in output:
            raise DemoError(f"'{command}' did not print {wants!r}")

    def show_gone(self, meaning: str, command: str) -> None:
        """Show a command that prints nothing, now or within seconds: systemd tidies up after a stop."""
        self._say(meaning)
        print(_styled(f"  # {command}", "1"), flush=True)
        self.machine.wait_until(
            lambda: not self.machine.run(command).stdout.strip(), what=f"an end of {command}"
        )
        print(_styled("    (nothing)", "2"), flush=True)

    @staticmethod
    def _say(meaning: str) -> None:
        print()
        print(textwrap.fill(meaning, 100, initial_indent="  ", subsequent_indent="  "), flush=True)


def walk(demo: Walkthrough) -> None:
    """The demo itself."""
    demo.chapter("1. Install")
    demo.show(
        "Install the programs, the units, and an example configuration.",
        f"make -s -C {Machine.PROJECT} install",
    )

    demo.chapter("2. A namespace from one small file")
    demo.file(
        "A namespace 'demo', joined to the host by a virtual cable: two addresses are enough.",
        "/etc/conf.d/netns/veth-demo.conf",
        VETH_DEMO,
    )
    demo.show("Is the configuration right?", "netnsctl check")
    demo.show("What will a start do? Nothing is done yet.", "netnsctl plan veth demo", wants="10.0.0.2/24")
    demo.show("Write the unit files.", "netns-update --daemon-reload", wants="successful")
    demo.show(
        "Start the cable and the namespace's firewall.", "systemctl start netns-veth@demo netns-nft@demo"
    )
    demo.show(
        "The namespace is there, with its own device and address.",
        "ip -n demo -br address",
        wants="10.0.0.2/24",
    )
    demo.show("The host has the other end.", "ip -br address show ve-demo0", wants="10.0.0.1/24")

    demo.chapter("3. Its firewall")
    ping = "ping -n -c 1 -W 1 10.0.0.2"
    demo.show(
        "The example rules let nothing in or out, so a ping gets no answer.",
        ping,
        wants="100% packet loss",
        fails=True,
    )
    demo.show(
        "Let pings in and answers out, while it runs.",
        "ip netns exec demo nft 'add rule inet filter input icmp type echo-request accept;"
        " add rule inet filter output ct state established accept'",
    )
    demo.show("Now there is an answer.", ping, wants=" 0% packet loss")
    demo.show("Save the rules.", "netns-nft-save demo", wants="Successfully saved")

    demo.chapter("4. Stop and start")
    demo.show("Stop both.", "systemctl stop netns-veth@demo netns-nft@demo")
    demo.show_gone("The namespace is gone.", "ip netns list")
    demo.show("Start again.", "systemctl start netns-veth@demo netns-nft@demo")
    demo.show(
        "The saved rule is there, and was there before the cable came up.",
        "ip netns exec demo nft list chain inet filter input",
        wants="echo-request",
    )
    demo.show("The ping works at once.", ping, wants=" 0% packet loss")

    demo.chapter("5. A service inside")
    demo.file(
        "Any service can live in the namespace. This web server needs no rights at all.",
        "/etc/systemd/system/hello.service",
        HELLO_SERVICE,
    )
    demo.show("Open its port.", "ip netns exec demo nft add rule inet filter input tcp dport 8000 accept")
    demo.show("Start it.", "systemctl daemon-reload && systemctl start hello.service")
    demo.show(
        "It answers at the namespace's address.",
        "curl --silent --retry 5 --retry-connrefused http://10.0.0.2:8000/GPL-2 | head -n 2",
        wants="GNU GENERAL PUBLIC LICENSE",
    )
    demo.show(
        "On the host itself nothing listens.", "curl --silent --show-error http://127.0.0.1:8000/", fails=True
    )

    demo.chapter("6. A set that follows addresses")
    demo.file(
        "Rules may name a set in place of addresses. This one has those of the cable's end in the namespace.",
        "/etc/conf.d/netns/addrset-demo.yaml",
        ADDRSET_DEMO,
    )
    demo.show("What would be done?", "netns-addrset plan --name demo", wants="add element")
    demo.show("Start it.", "netns-update -q && systemctl start netns-addrset@demo")
    list_set = "ip netns exec demo nft list set inet netns_addrset_demo inside_ips"
    demo.show("It has the address,", list_set, wants="elements = { 10.0.0.2 }")
    demo.show("and when another one is added", "ip -n demo address add 10.0.0.3/24 dev ve-demo1")
    demo.show_soon("it has that a millisecond later.", list_set, wants="10.0.0.2, 10.0.0.3")
    demo.show("Somebody empties it:", list_set.replace("list", "flush", 1))
    demo.show_soon("it is filled again.", list_set, wants="10.0.0.2, 10.0.0.3")
    demo.show("It says so too.", "netns-addrset status --name demo", wants="inside_ips: ok")

    demo.chapter("7. Nothing is left")
    demo.show(
        "Stopping the cable stops the service that needs it.",
        "systemctl stop netns-veth@demo netns-nft@demo netns-addrset@demo",
    )
    demo.show_gone("No namespace,", "ip netns list")
    demo.show_gone("no device,", "ip -br link show type veth")
    demo.show_gone("no unit.", "systemctl list-units --plain --no-legend 'netns*@*' hello.service")


def main() -> int:
    """Run the demo; 0 when every step did what it says."""
    if os.geteuid() != 0:
        print("The demo boots a throwaway machine, which needs root: sudo make demo", file=sys.stderr)
        return 1
    began = time.monotonic()
    print("Booting a throwaway Debian 12 with systemd; this machine itself is not changed.", flush=True)
    try:
        with Machine("debian12") as machine:
            print(
                f"It is up after {time.monotonic() - began:.1f} s. Each '#' line below is run in it, as root."
            )
            walk(Walkthrough(machine))
        print(
            _styled(
                f"\nAll of it worked, in {time.monotonic() - began:.0f} s; the machine is gone.\n", "1;32"
            )
        )
        print(NEXT, end="")
    except (DemoError, MachineError) as error:
        print(_styled(f"\nThe demo has failed: {error}", "1;31"), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted; the machine is gone.", file=sys.stderr)
        return 130
    return 0


def _styled(text: str, code: str) -> str:
    return f"\033[{code}m{text}\033[0m" if COLOUR else text


if __name__ == "__main__":
    sys.exit(main())
