package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/url"
	"strings"
)

// exitMissed is the exit code of listen when events were missed.
const exitMissed = 3

// errMissed: events were missed, or it cannot be told which.
var errMissed = errors.New("events were missed")

// listenFlags is what gateway listen is asked for.
type listenFlags struct {
	data, prefix, suffix, events, resume, bucket string
	all, json                                    bool
}

// listen shows a bucket's events as they happen, one line each. Its exit code
// is 0 when it was interrupted, 1 when the stream ended or there is no gateway,
// 2 for what cannot be asked for, and 3 when events were missed.
func listen(ctx context.Context, args, environ []string, stdout, stderr io.Writer) (int, error) {
	f, err := parseListen(args, environ, stderr)
	if err != nil {
		return 2, err
	}
	stream, err := openListen(ctx, f.data, url.Values{
		"bucket": {f.bucket}, "prefix": {f.prefix}, "suffix": {f.suffix}, "resume": {f.resume}, "event": strings.Split(f.events, ","),
	})
	if err != nil {
		if errors.Is(err, errMissed) {
			return exitMissed, err
		}
		return 1, err
	}
	defer stream.Close()
	what := "bucket " + f.bucket
	if f.all {
		what = "all buckets"
	}
	fmt.Fprintf(stderr, "listening to %s; interrupt to stop\n", what)
	show := shower{stdout: stdout, stderr: stderr, json: f.json, place: f.resume}
	err = show.all(stream)
	if show.place != "" {
		fmt.Fprintf(stderr, "go on from here with --resume %s\n", show.place)
	}
	switch {
	case ctx.Err() != nil:
		return 0, nil
	case errors.Is(err, errMissed):
		return exitMissed, err
	case err == nil:
		err = errors.New("the gateway ended the stream")
	}
	return 1, err
}

func parseListen(args, environ []string, stderr io.Writer) (*listenFlags, error) {
	c := defaultConfig()
	if err := readEnviron(environ, c.options()); err != nil {
		return nil, err
	}
	f := &listenFlags{}
	fs := flag.NewFlagSet("gateway listen", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.StringVar(&f.data, "data", c.Data, "`directory` that the gateway serves")
	fs.StringVar(&f.prefix, "prefix", "", "only keys with this `prefix`")
	fs.StringVar(&f.suffix, "suffix", "", "only keys with this `suffix`")
	fs.StringVar(&f.events, "events", "s3:ObjectCreated:*,s3:ObjectRemoved:*,s3:ObjectLifecycle:*", "comma-separated event `types`")
	fs.StringVar(&f.resume, "resume", "", "go on after the event with this `ID`")
	fs.BoolVar(&f.all, "all", false, "events of all buckets")
	fs.BoolVar(&f.json, "json", false, `print JSON: {"Id":ID,"Records":[RECORD]}`)
	for len(args) > 0 { // the bucket may stand before or after flags
		if err := fs.Parse(args); err != nil {
			return nil, err
		}
		if args = fs.Args(); len(args) > 0 {
			if f.bucket != "" {
				return nil, errors.New("one bucket, please")
			}
			f.bucket, args = args[0], args[1:]
		}
	}
	if (f.bucket == "") != f.all {
		return nil, errors.New("which bucket? gateway listen BUCKET, or --all")
	}
	return f, nil
}

// shower prints a stream.
type shower struct {
	stdout, stderr io.Writer
	json           bool
	place          string // ID of what was last shown
}

// all prints until the stream ends. Errors: errMissed.
func (s *shower) all(stream io.Reader) error {
	r := bufio.NewReader(stream)
	for {
		line, err := r.ReadBytes('\n')
		if err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		if err := s.line(line); err != nil {
			return err
		}
	}
}

func (s *shower) line(line []byte) error {
	var l streamLine
	if err := json.Unmarshal(line, &l); err != nil {
		return fmt.Errorf("event: %w", err)
	}
	if l.ID != "" {
		s.place = l.ID
	}
	if l.Notice != "" {
		fmt.Fprintln(s.stderr, l.Notice)
	}
	switch {
	case l.Missed:
		return fmt.Errorf("%w: %s", errMissed, l.Error)
	case l.Error != "":
		return errors.New(l.Error)
	}
	if s.json && len(l.Records) > 0 {
		_, err := s.stdout.Write(line)
		return err
	}
	for _, r := range l.Records {
		if err := showEvent(s.stdout, r); err != nil {
			return err
		}
	}
	return nil
}

func showEvent(w io.Writer, line []byte) error {
	var r struct {
		EventTime, EventName string
		S3                   struct {
			Bucket struct{ Name string }
			Object struct {
				Key, VersionID string
				Size           int64
			}
		}
	}
	if err := json.Unmarshal(line, &r); err != nil {
		return fmt.Errorf("event: %w", err)
	}
	o, version := r.S3.Object, ""
	if o.VersionID != "" {
		version = " version " + o.VersionID
	}
	_, err := fmt.Fprintf(w, "%s %s %s/%s %d bytes%s\n", r.EventTime, r.EventName, r.S3.Bucket.Name, o.Key, o.Size, version)
	return err
}
