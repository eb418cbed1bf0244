// Command gateway is Herald: an S3 gateway over a directory tree whose bucket
// notifications are never lost. Bare `gateway` prints its verbs.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Environ(), os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

const usage = `Herald: an S3 gateway over plain directories or a Ceph cluster, with bucket notifications that never get lost.

  gateway serve                 serve S3 (--data DIR, --listen ADDR, ...; see serve --help)
  gateway listen BUCKET         show a bucket's events as they happen (--all: those of all buckets; --resume ID)
  gateway admin ...             users, keys, topics, notifications, dead letters, queues; see admin --help
  gateway fsck                  compare index and files (--repair mends)
  gateway rados init            make the pools and the Ceph user of a store in RADOS; see rados init --help
  gateway config                print the configuration in force, secrets masked
  gateway version               print the version, and which stores and queues are built in

listen, admin and fsck find the gateway by --data (default ./herald-data).
`

// verb runs one verb of the command line and returns the exit code.
type verb func(ctx context.Context, args, environ []string, stdout, stderr io.Writer) (int, error)

func run(ctx context.Context, args, environ []string, stdout, stderr io.Writer) int {
	verbs := map[string]verb{
		"serve": serve, "listen": listen, "admin": adminVerb, "fsck": fsck,
		"rados": radosVerb, "config": printConfig, "version": printVersion, "--version": printVersion,
	}
	maps.Copy(verbs, faultVerbs())
	if len(args) == 0 || args[0] == "help" || args[0] == "--help" || args[0] == "-h" {
		_, _ = io.WriteString(stdout, usage)
		return 0
	}
	v, ok := verbs[args[0]]
	if !ok {
		fmt.Fprintf(stderr, "gateway: unknown verb %q%s\n\n%s", args[0], suggest(args[0], slices.Collect(maps.Keys(verbs))), usage)
		return 2
	}
	code, err := v(ctx, args[1:], environ, stdout, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		fmt.Fprintf(stderr, "gateway %s: %v\n", args[0], err)
		return max(code, 1)
	}
	return code
}

func printConfig(_ context.Context, args, environ []string, stdout, stderr io.Writer) (int, error) {
	c, _, err := loadConfig("config", args, environ, stderr)
	if err != nil {
		return 1, err
	}
	return 0, c.print(stdout)
}

func printVersion(_ context.Context, _, _ []string, stdout, _ io.Writer) (int, error) {
	fmt.Fprintf(stdout, "herald %s\nstores: %s\nqueues: %s\n", version(), strings.Join(storeDrivers(), ", "), strings.Join(queueDrivers(), ", "))
	return 0, nil
}

// version is the module's version as the build recorded it.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "(devel)"
	}
	return info.Main.Version
}
