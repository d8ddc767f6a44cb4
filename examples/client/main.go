// Command client opens an account on a running Passbook, moves money, reads what it wrote, and lists the account's events.
//
//	go run ./examples/client http://127.0.0.1:8080
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"passbook/client"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: client URL")
		os.Exit(2)
	}
	if err := run(context.Background(), os.Args[1], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, url string, out io.Writer) error {
	c, err := client.New(url, client.WithReadYourWrites())
	if err != nil {
		return err
	}
	defer c.Close()

	opened, err := c.Open(ctx, client.OpenAccount{Owner: "Ada Lovelace", Currency: "EUR"})
	if err != nil {
		return err
	}
	// With its own key, a command can be sent again, even by another process: it is applied once.
	invoice := client.Key("invoice-17-" + opened.AccountID.String())
	for range 2 {
		if _, err := c.Deposit(ctx, client.MoneyMovement{AccountID: opened.AccountID, Amount: "12.34"}, invoice); err != nil {
			return err
		}
	}
	balance, err := c.Balance(ctx, opened.AccountID) // waits for the deposit
	if err != nil {
		return err
	}
	fmt.Fprintln(out, balance.Owner, "has", balance.Balance, balance.Currency)

	// A command that the rules refuse fails with a problem that has a code.
	_, err = c.Withdraw(ctx, client.MoneyMovement{AccountID: opened.AccountID, Amount: "100"})
	if problem, ok := errors.AsType[*client.Problem](err); ok {
		fmt.Fprintln(out, "refused:", problem.Code)
	} else if err != nil {
		return err
	}

	for event, err := range c.Events(ctx, opened.Position-1, client.EventFilter{Account: opened.AccountID}) {
		if err != nil {
			return err
		}
		fmt.Fprintln(out, "event:", event.Type)
	}
	return nil
}
