package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"herald/store"
)

// adminVerb passes a command on to the running gateway, or opens the directory
// itself when there is none.
func adminVerb(ctx context.Context, args, environ []string, stdout, stderr io.Writer) (int, error) {
	c, args, err := offlineConfig(args, environ)
	if err != nil {
		return 2, err
	}
	code, err := callControl(ctx, c.Data, "/admin", args, stdout, stderr)
	if !errors.Is(err, errNoGateway) {
		return code, err
	}
	if _, err := os.Stat(filepath.Join(c.Data, ".herald")); err != nil {
		return 1, fmt.Errorf("%s is no gateway's data directory; say --data DIR", c.Data)
	}
	if err := c.hasFiles(); err != nil {
		return 1, err
	}
	g, err := open(c, slog.New(slog.DiscardHandler), true)
	if err != nil {
		return 1, err
	}
	journalCtx, stop := context.WithCancel(ctx)
	ran := make(chan error, 1)
	go func() { ran <- g.journal.Run(journalCtx) }() // a command may write much
	code = g.admin.Run(ctx, args, stdout, stderr)
	stop()
	return code, errors.Join(ignoreCanceled(<-ran), g.close())
}

// offlineConfig takes --data, --config and the options of queues from the
// arguments; everything else is left.
func offlineConfig(args, environ []string) (config, []string, error) {
	c := defaultConfig()
	opts := c.options()
	if file := configFile(args, environ); file != "" {
		if err := c.readFile(file, opts); err != nil {
			return c, nil, err
		}
	}
	if err := readEnviron(environ, opts); err != nil {
		return c, nil, err
	}
	var rest []string
	for i := 0; i < len(args); i++ {
		name, value, hasValue := strings.Cut(strings.TrimLeft(args[i], "-"), "=")
		at := slices.IndexFunc(opts, func(o option) bool { return o.flag == name })
		mine := name == "config" || at >= 0 && (name == "data" || strings.HasPrefix(opts[at].key, "store") || strings.HasPrefix(opts[at].key, "queue"))
		if !strings.HasPrefix(args[i], "-") || !mine {
			rest = append(rest, args[i])
			continue
		}
		if !hasValue {
			switch {
			case at >= 0 && opts[at].IsBoolFlag():
				value = "true"
			case i+1 == len(args):
				return c, nil, fmt.Errorf("--%s needs a value", name)
			default:
				i++
				value = args[i]
			}
		}
		if at < 0 {
			continue // --config, read above
		}
		if err := opts[at].Set(value); err != nil {
			return c, nil, fmt.Errorf("--%s: %w", name, err)
		}
	}
	return c, rest, c.validate()
}

// fsck looks whether what the store keeps fits together, in the running gateway
// or offline.
func fsck(ctx context.Context, args, environ []string, stdout, stderr io.Writer) (int, error) {
	c, args, err := offlineConfig(args, environ)
	if err != nil {
		return 2, err
	}
	fs := flag.NewFlagSet("gateway fsck", flag.ContinueOnError)
	fs.SetOutput(stderr)
	repair := fs.Bool("repair", false, "mend what is found")
	deep := fs.Bool("deep", false, "read every object and compare its MD5 with its ETag")
	if err := fs.Parse(args); err != nil {
		return 2, err
	}
	path := "/fsck?"
	if *repair {
		path += "repair&"
	}
	if *deep {
		path += "deep"
	}
	code, err := callControl(ctx, c.Data, path, nil, stdout, stderr)
	if !errors.Is(err, errNoGateway) {
		return code, err
	}
	if err := c.hasFiles(); err != nil {
		return fsckFailed, err
	}
	g, err := open(c, slog.New(slog.DiscardHandler), true)
	if err != nil {
		return fsckFailed, err
	}
	code = g.fsck(ctx, *repair, *deep, stdout)
	return code, g.close()
}

// hasFiles refuses a directory without a store of files when that is what the
// options name: it would be made, and found to be well. A gateway whose objects
// are in RADOS has a directory, too.
func (c *config) hasFiles() error {
	if c.Store != posixStore {
		return nil
	}
	if _, err := os.Stat(filepath.Join(c.Data, ".herald", "keys")); errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("no gateway serves %s, and it holds no store of files; say --data DIR, or what the store is by --config or --store", c.Data)
	}
	return nil
}

// Exit codes of fsck, beside 0, as those of e2fsck.
const (
	fsckLeft   = 4 // something is left that was found
	fsckFailed = 8 // it could not go on
)

// fsck writes a line per finding and a summary, and returns the exit code.
func (g *gateway) fsck(ctx context.Context, repair, deep bool, w io.Writer) int {
	left := 0
	checked, ok := g.driver.(store.Fscker)
	if !ok {
		fmt.Fprintf(w, "fsck: %s: %v\n", g.config.Store, store.ErrNotSupported)
		return fsckFailed
	}
	stats, err := checked.Fsck(ctx, store.FsckOptions{Repair: repair, Deep: deep, Report: func(f store.Finding) {
		done := "repaired"
		if !f.Repaired {
			done = "left"
			left++
		}
		fmt.Fprintf(w, "%s: %s/%s: %s (%s)\n", f.Kind, f.Bucket, f.Key, f.Detail, done)
	}})
	if err != nil {
		fmt.Fprintf(w, "fsck: %v\n", err)
		return fsckFailed
	}
	fmt.Fprintf(w, "%+v\n", stats)
	if left > 0 {
		return fsckLeft
	}
	return 0
}
