// Command migration writes databases as SPIRE servers write them, with SPIRE's own SQL datastore, and compares what such
// a database says with what Steeple says after an import, each through SPIRE's datastore interface. The script test
// beside it does the whole round for each kind of database that is installed. It also measures SPIRE's own datastore on such
// a database (docs/performance.md).
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/spiffe/spire/pkg/server/datastore"
	"github.com/spiffe/spire/pkg/server/datastore/sqlstore"

	steeple "steeple.internal/adapters/spire"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "migration:", err)
		os.Exit(1)
	}
}

func run(arguments []string) error {
	if len(arguments) == 0 {
		return fmt.Errorf("say what to do: write, compare or measure")
	}
	flags := flag.NewFlagSet(arguments[0], flag.ContinueOnError)
	kind := flags.String("database", "sqlite3", "kind of database: sqlite3, postgres or mysql")
	connection := flags.String("connection", "", "connection string of the database")
	entries := flags.Int("entries", 10_000, "entries to write")
	nodes := flags.Int("nodes", 1_000, "nodes to write")
	workers := flags.Int("workers", 1, "entries that are written at a time, or callers that are measured")
	seconds := flags.Float64("seconds", 1.5, "how long each call is measured")
	endpoint := flags.String("endpoint", "127.0.0.1:7400", "a node of Steeple")
	namespace := flags.String("namespace", "default", "namespace of Steeple")
	if err := flags.Parse(arguments[1:]); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Minute)
	defer cancel()
	log := logrus.New()
	log.SetLevel(logrus.WarnLevel)
	store := sqlstore.New(log)
	block := fmt.Sprintf("database_type = %q\nconnection_string = %q\n", *kind, *connection)
	if err := store.Configure(ctx, block); err != nil {
		return fmt.Errorf("the %s database: %w", *kind, err)
	}
	defer store.Close()
	switch arguments[0] {
	case "write":
		return write(ctx, store, *entries, *nodes, *workers)
	case "compare":
		imported := steeple.New(log)
		block := fmt.Sprintf("endpoints = [%q]\nnamespace = %q\n", *endpoint, *namespace)
		if err := imported.Configure(ctx, block); err != nil {
			return fmt.Errorf("Steeple: %w", err)
		}
		defer imported.Close()
		return compare(ctx, store, imported)
	case "measure":
		return measure(ctx, store, *entries, *workers, time.Duration(*seconds*float64(time.Second)), os.Stdout)
	default:
		return fmt.Errorf("%q is none of write, compare and measure", arguments[0])
	}
}

var _ datastore.TestableDataStore = (*sqlstore.Plugin)(nil)
