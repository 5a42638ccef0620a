# netns-tools. What can be made: make help
#
# DESTDIR  install below this directory, for a package; nothing outside it is touched
# LIBDIR   where the program is; units go to $(LIBDIR)/systemd/system
# BINDIR   where the commands are
DESTDIR =
LIBDIR = /usr/lib
BINDIR = /usr/sbin
export DESTDIR LIBDIR BINDIR PYTEST

all: ## nothing: the programs need no building
	@echo "Nothing to build. 'sudo make install' installs, 'make help' says what else there is."

help: ## this list
	@sed -n 's/^\([a-z_-]*\):.*## \(.*\)/make \1\t\2/p' Makefile | expand -t 24

install: install_configs ## the programs, units and examples (as root; with DESTDIR= anybody may)
	@sh make/install

install_configs: ## the commented example configuration into /etc/conf.d/netns; never overwrites
	@sh make/install-configs

uninstall: ## stop all instances and remove all but the configuration
	@sh make/uninstall

check: ## set up and run everything that is tested (as root); PYTEST="-k veth" for a part
	@sh make/check

bench: ## measure starts and stops against a floor (as root, three minutes)
	@sh make/packages systemd systemd-container mmdebstrap debian-archive-keyring iproute2 nftables \
		python3 python3-click python3-h11 python3-jinja2 python3-nftables python3-yaml
	@/usr/bin/python3 -B bench/bench.py $(BENCH)

bench-addrset: ## measure how soon a set follows an address (as root, a minute)
	@sh make/packages iproute2 nftables python3 python3-click python3-nftables python3-yaml
	@/usr/bin/python3 -B bench/addrset.py $(BENCH)

bench-natmap: ## measure ten thousand port mappings beside iptables and nft (as root, two minutes)
	@sh make/packages iproute2 iptables nftables python3 python3-click python3-h11 python3-nftables python3-yaml
	@/usr/bin/python3 -B bench/natmap.py $(BENCH)

demo: ## see it work in a throwaway machine, in a minute (as root)
	@sh make/packages systemd systemd-container mmdebstrap debian-archive-keyring curl iproute2 iputils-ping netbase nftables \
		python3 python3-click python3-h11 python3-jinja2 python3-nftables python3-yaml
	@/usr/bin/python3 -B demo/walkthrough.py

.PHONY: all help install install_configs uninstall check bench bench-addrset bench-natmap demo
