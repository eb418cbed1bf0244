// Package powerloss gives tests a filesystem whose power can be cut: an ext4
// image on a loop device, shut down by ext4's own ioctl without flushing its
// journal. What the filesystem had not yet written to the device is gone; the
// device itself forgets nothing, so that a missing cache flush of a real disk
// is not noticed.
//
// It needs Linux, root and loop devices. Where they are missing the test is
// skipped, but fails when CI=true.
package powerloss
