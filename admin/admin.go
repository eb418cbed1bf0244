// Package admin carries out `gateway admin ...`: users, keys, topics,
// notifications and dead letters, in radosgw-admin's words, flags and JSON, so
// that scripts written for it find what they expect.
//
// Commands run inside the gateway that has the store open; the command line
// only passes its arguments on.
package admin

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"

	"herald/auth"
	"herald/lifecycle"
	"herald/notify"
	"herald/queue"
	"herald/store"
)

// Exit codes are errno values, as radosgw-admin's.
const (
	exitNoEntry     = 2  // ENOENT
	exitOther       = 5  // EIO
	exitBusy        = 16 // EBUSY
	exitExists      = 17 // EEXIST
	exitInvalid     = 22 // EINVAL
	exitNoSpace     = 28 // ENOSPC
	exitNotEmpty    = 39 // ENOTEMPTY
	exitUnsupported = 95 // EOPNOTSUPP
)

// Config is what commands act on; all fields but Places are required.
type Config struct {
	Store  *store.Service
	Users  *auth.Users
	Notify *notify.Service
	Queues queue.Driver
	Places Places // nil in a running gateway
	// Lifecycle carries out the rules of buckets.
	Lifecycle *lifecycle.Worker
}

// Admin runs commands. It may be used concurrently.
type Admin struct{ Config }

// New returns an Admin.
func New(c Config) *Admin { return &Admin{c} }

// command is one row of the table of commands.
type command struct {
	words string // as typed: "topic dead-letters list"
	help  string
	flags []string // those it takes, beside --format, which is always accepted
	run   func(*Admin, context.Context, *call) error
}

// commands returns the table, in the order of the help.
func commands() []command {
	return slices.Concat(userCommands, accountCommands, topicCommands, notificationCommands, bucketCommands, lifecycleCommands, queueCommands)
}

// call is one command with its flags parsed.
type call struct {
	out, errOut io.Writer

	uid, tenant, displayName, email, accessKey, secretKey string
	bucket, topic, notificationID, marker                 string
	accountID, accountName                                string
	key, event, versionID                                 string
	maxEntries                                            int
	admin, system, accountRoot                            bool

	name, from, to, set string
	repair, keep, force bool
	purge               bool

	given []string // the flags that were given
}

// blank refuses a flag that was given without a value where a command without
// the flag is about everything: a script may have had nothing to put there.
func (c *call) blank(flag, value string) error {
	if value == "" && slices.Contains(c.given, flag) {
		return invalid("--%s has no value", flag)
	}
	return nil
}

func (c *call) flagSet() *flag.FlagSet {
	fs := flag.NewFlagSet("admin", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.StringVar(&c.uid, "uid", "", "user `id`, or tenant$id")
	fs.StringVar(&c.tenant, "tenant", "", "tenant `name`")
	fs.StringVar(&c.displayName, "display-name", "", "`name` for people")
	fs.StringVar(&c.email, "email", "", "mail `address`")
	fs.StringVar(&c.accessKey, "access-key", "", "access `key`; default: generated")
	fs.StringVar(&c.secretKey, "secret-key", "", "secret `key`; default: generated")
	fs.StringVar(&c.secretKey, "secret", "", "the same as --secret-key")
	fs.BoolVar(&c.admin, "admin", false, "the user may do everything")
	fs.BoolVar(&c.system, "system", false, "the same")
	fs.StringVar(&c.bucket, "bucket", "", "bucket `name`")
	fs.StringVar(&c.topic, "topic", "", "topic `name`")
	fs.StringVar(&c.key, "key", "", "`key` of an object")
	fs.StringVar(&c.event, "event", "", "event `type`, as s3:ObjectCreated:Put")
	fs.StringVar(&c.versionID, "version-id", "", "version `id`")
	fs.StringVar(&c.notificationID, "notification-id", "", "notification `id`")
	fs.StringVar(&c.accountID, "account-id", "", "account `id`; of topics in place of a tenant")
	fs.StringVar(&c.accountName, "account-name", "", "account `name`")
	fs.BoolVar(&c.accountRoot, "account-root", false, "the user may do everything with what the account owns")
	fs.StringVar(&c.marker, "marker", "", "list after this `marker`")
	fs.IntVar(&c.maxEntries, "max-entries", 0, "list at most `n`")
	fs.StringVar(&c.name, "name", "", "`name` of a queue")
	fs.StringVar(&c.from, "from", "", "`place` of queues")
	fs.StringVar(&c.to, "to", "", "`place` of queues")
	fs.StringVar(&c.set, "set", "", "the new `value`")
	fs.BoolVar(&c.purge, "purge-objects", false, "with what is in it, of which there are no events")
	fs.BoolVar(&c.purge, "purge-data", false, "the same; of a user: its buckets")
	fs.BoolVar(&c.repair, "repair", false, "mend what is found")
	fs.BoolVar(&c.keep, "keep", false, "leave the empty queues where they were")
	fs.BoolVar(&c.force, "force", false, "also while gateways use the queues")
	fs.String("format", "json", "only json")
	fs.Bool("yes-i-really-mean-it", false, "accepted for radosgw-admin's sake")
	return fs
}

// Run carries out one command line and returns its exit code.
func (a *Admin) Run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	c := &call{out: stdout, errOut: stderr}
	words, given, err := parse(c.flagSet(), args)
	if len(words) == 0 || errors.Is(err, flag.ErrHelp) || words[0] == "help" {
		help(stdout)
		return 0
	}
	if err == nil {
		err = a.dispatch(ctx, c, words, given)
	}
	if err != nil {
		fmt.Fprintf(stderr, "ERROR: %v\n", err)
		return exitCode(err)
	}
	return 0
}

// parse takes flags from anywhere among the words, as radosgw-admin does.
func parse(fs *flag.FlagSet, args []string) (words, given []string, err error) {
	for len(args) > 0 {
		if err := fs.Parse(args); err != nil {
			return words, nil, invalid("%v", err)
		}
		args = fs.Args()
		if len(args) > 0 {
			words, args = append(words, args[0]), args[1:]
		}
	}
	fs.Visit(func(f *flag.Flag) { given = append(given, f.Name) })
	return words, given, nil
}

func (a *Admin) dispatch(ctx context.Context, c *call, words, given []string) error {
	line := strings.Join(words, " ")
	for _, cmd := range commands() {
		if cmd.words != line {
			continue
		}
		for _, name := range given {
			if !slices.Contains(cmd.flags, name) && name != "format" && name != "yes-i-really-mean-it" {
				return invalid("%s takes no --%s", cmd.words, name)
			}
		}
		c.given = given
		return cmd.run(a, ctx, c)
	}
	return invalid("unknown command %q; see gateway admin help", line)
}

func help(w io.Writer) {
	fmt.Fprint(w, "gateway admin COMMAND [--flag value ...], in radosgw-admin's words:\n\n")
	for _, cmd := range commands() {
		fmt.Fprintf(w, "  %-28s %s", cmd.words, cmd.help)
		for _, f := range cmd.flags {
			fmt.Fprintf(w, " --%s", f)
		}
		fmt.Fprintln(w)
	}
}

// exitError is an error that knows its exit code.
type exitError struct {
	code int
	msg  string
}

func (e *exitError) Error() string { return e.msg }

func invalid(format string, args ...any) error {
	return &exitError{exitInvalid, fmt.Sprintf(format, args...)}
}

func notFound(format string, args ...any) error {
	return &exitError{exitNoEntry, fmt.Sprintf(format, args...)}
}

func exitCode(err error) int {
	var e *exitError
	switch {
	case errors.As(err, &e):
		return e.code
	case errors.Is(err, auth.ErrNoSuchUser), errors.Is(err, auth.ErrNoSuchKey), errors.Is(err, auth.ErrNoSuchAccount),
		errors.Is(err, notify.ErrNoSuchTopic), errors.Is(err, store.ErrNoSuchBucket),
		errors.Is(err, queue.ErrNoSuchQueue):
		return exitNoEntry
	case errors.Is(err, store.ErrBucketNotEmpty):
		return exitNotEmpty
	case errors.Is(err, lifecycle.ErrBusy):
		return exitBusy
	case errors.Is(err, auth.ErrUserExists), errors.Is(err, auth.ErrKeyExists), errors.Is(err, auth.ErrAccountExists):
		return exitExists
	case errors.Is(err, auth.ErrInvalidID), errors.Is(err, auth.ErrInvalidKey), errors.Is(err, store.ErrKeyTooLong):
		return exitInvalid
	}
	return exitOther
}

// print writes a value as radosgw-admin does: indented by four.
func (c *call) print(v any) error {
	enc := json.NewEncoder(c.out)
	enc.SetIndent("", "    ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}
