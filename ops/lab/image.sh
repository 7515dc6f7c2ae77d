# Makes a fresh Debian tree into what a cloud image is: sshd, a deploy user with sudo, nothing of the cluster.
# Runs inside the tree. Arguments: one string of package names per component that hosts will install.

useradd --create-home --shell /bin/bash deploy
echo 'deploy ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/deploy
chmod 440 /etc/sudoers.d/deploy
install -d -m 700 -o deploy -g deploy /home/deploy/.ssh

cat >/etc/ssh/sshd_config.d/lab.conf <<'CONF'
PasswordAuthentication no
UseDNS no
MaxSessions 64
MaxStartups 64:30:128
CONF

# What a container has no use for, and eleven of them would pay for: consoles, udev, logins, nightly jobs, device mounts.
systemctl mask --quiet \
    getty.target console-getty.service systemd-logind.service \
    systemd-udevd.service systemd-udev-trigger.service systemd-modules-load.service \
    apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer fstrim.timer e2scrub_all.timer e2scrub_reap.service \
    systemd-timesyncd.service systemd-resolved.service systemd-networkd-wait-online.service \
    dev-hugepages.mount dev-mqueue.mount sys-kernel-debug.mount sys-kernel-tracing.mount systemd-pstore.service
systemctl enable --quiet systemd-networkd.service ssh.service
systemctl set-default --quiet multi-user.target

update-ca-certificates >/dev/null

# Downloaded, not installed: hosts install from here, as the deploys ask for it.
apt-get update -qq
for packages; do
    # shellcheck disable=SC2086  # a list of packages
    apt-get install -qq -y --no-install-recommends --download-only $packages
done

# Every host gets an identity of its own when its disk is made.
rm -f /etc/ssh/ssh_host_* /etc/hostname /etc/resolv.conf
: >/etc/machine-id
printf '127.0.0.1 localhost\n' >/etc/hosts
