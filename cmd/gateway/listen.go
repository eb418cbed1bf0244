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

// listen shows a bucket's events as they happen, one line each.
func listen(ctx context.Context, args, environ []string, stdout, stderr io.Writer) (int, error) {
	c := defaultConfig()
	if err := readEnviron(environ, c.options()); err != nil {
		return 1, err
	}
	fs := flag.NewFlagSet("gateway listen", flag.ContinueOnError)
	fs.SetOutput(stderr)
	data := fs.String("data", c.Data, "`directory` that the gateway serves")
	prefix := fs.String("prefix", "", "only keys with this `prefix`")
	suffix := fs.String("suffix", "", "only keys with this `suffix`")
	events := fs.String("events", "s3:ObjectCreated:*,s3:ObjectRemoved:*", "comma-separated event `types`")
	raw := fs.Bool("json", false, "print whole records")
	var bucket string
	for len(args) > 0 { // the bucket may stand before or after flags
		if err := fs.Parse(args); err != nil {
			return 2, err
		}
		if args = fs.Args(); len(args) > 0 {
			if bucket != "" {
				return 2, errors.New("one bucket, please")
			}
			bucket, args = args[0], args[1:]
		}
	}
	if bucket == "" {
		return 2, errors.New("which bucket? gateway listen BUCKET")
	}
	stream, err := openListen(ctx, *data, url.Values{
		"bucket": {bucket}, "prefix": {*prefix}, "suffix": {*suffix}, "event": strings.Split(*events, ","),
	})
	if err != nil {
		return 1, err
	}
	defer stream.Close()
	fmt.Fprintf(stderr, "listening to bucket %s; interrupt to stop\n", bucket)
	err = showEvents(stream, stdout, *raw)
	if ctx.Err() != nil {
		return 0, nil
	}
	if err == nil {
		err = errors.New("the gateway ended the stream")
	}
	return 1, err
}

func showEvents(stream io.Reader, stdout io.Writer, raw bool) error {
	r := bufio.NewReader(stream)
	for {
		line, err := r.ReadBytes('\n')
		if err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		if len(line) <= 1 {
			continue // alive
		}
		if raw {
			_, err = stdout.Write(line)
		} else {
			err = showEvent(stdout, line)
		}
		if err != nil {
			return err
		}
	}
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
