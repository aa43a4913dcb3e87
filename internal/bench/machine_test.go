package main

import "testing"

func TestFilesystem(t *testing.T) {
	const mountinfo = `22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 22 0:25 / /tmp rw,nosuid - tmpfs tmpfs rw,size=1024k
31 30 254:1 /bench /tmp/disk rw,relatime shared:2 master:1 - xfs /dev/vdb rw
32 22 0:26 / /with\040space rw - tmpfs tmpfs rw
33 22 254:2 / /with\040space rw - btrfs /dev/vdc rw
`
	for path, want := range map[string]string{
		"/":                     "ext4",
		"/home/me":              "ext4",
		"/tmp":                  "tmpfs",
		"/tmp/bench":            "tmpfs",
		"/tmpfile":              "ext4",
		"/tmp/disk/bench":       "xfs",
		"/with space/mounted 2": "btrfs",
	} {
		if got := filesystem(mountinfo, path); got != want {
			t.Errorf("%s is on %q, want %q", path, got, want)
		}
	}
	if got := filesystem("", "/tmp"); got != "" {
		t.Errorf("without a list of mounts: %q", got)
	}
}
