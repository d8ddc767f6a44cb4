package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"time"

	"passbook/client"
)

// server is the URL of the examples' server: a real one, which TestMain runs.
var server string

func Example() {
	ctx := context.Background()
	c, err := client.New(server, client.WithReadYourWrites())
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	ada, err := c.Open(ctx, client.OpenAccount{Owner: "Ada Lovelace", Currency: "EUR"})
	if err != nil {
		log.Fatal(err)
	}
	if _, err := c.Deposit(ctx, client.MoneyMovement{AccountID: ada.AccountID, Amount: "12.34"}); err != nil {
		log.Fatal(err)
	}
	balance, err := c.Balance(ctx, ada.AccountID) // waits for the deposit
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(balance.Owner, balance.Balance, balance.Currency)
	// Output: Ada Lovelace 12.34 EUR
}

// A command that the rules refuse fails with a problem that has a code.
func ExampleProblem() {
	ctx := context.Background()
	c, err := client.New(server)
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	ada, err := c.Open(ctx, client.OpenAccount{Owner: "Ada", Currency: "EUR"})
	if err != nil {
		log.Fatal(err)
	}
	_, err = c.Withdraw(ctx, client.MoneyMovement{AccountID: ada.AccountID, Amount: "0.01"})
	if p, ok := errors.AsType[*client.Problem](err); ok {
		fmt.Println(p.Status, p.Code, p.Errors[0].Pointer)
	}
	// Output: 422 insufficient-funds /amount
}

// With the caller's own key, a command that two processes send is applied once.
func ExampleKey() {
	ctx := context.Background()
	c, err := client.New(server, client.WithReadYourWrites())
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	ada, err := c.Open(ctx, client.OpenAccount{Owner: "Ada", Currency: "EUR"})
	if err != nil {
		log.Fatal(err)
	}
	for range 2 {
		var replayed bool
		_, err := c.Deposit(ctx, client.MoneyMovement{AccountID: ada.AccountID, Amount: "5"},
			client.Key("invoice-17-"+ada.AccountID.String()), client.Replayed(&replayed))
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println("replayed:", replayed)
	}
	balance, err := c.Balance(ctx, ada.AccountID)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(balance.Balance)
	// Output:
	// replayed: false
	// replayed: true
	// 5.00
}

// The position of a receipt lets another process read what this one wrote.
func ExampleAtLeast() {
	ctx := context.Background()
	writer, err := client.New(server)
	if err != nil {
		log.Fatal(err)
	}
	defer writer.Close()
	ada, err := writer.Open(ctx, client.OpenAccount{Owner: "Ada", Currency: "EUR"})
	if err != nil {
		log.Fatal(err)
	}
	reader, err := client.New(server)
	if err != nil {
		log.Fatal(err)
	}
	defer reader.Close()
	var applied int64
	account, err := reader.Account(ctx, ada.AccountID, client.AtLeast(ada.Position), client.WaitAtMost(10*time.Second),
		client.Applied(&applied))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(account.Status, applied >= ada.Position)
	// Output: active true
}

// One request can carry many commands; each has its own result.
func ExampleClient_RunAll() {
	ctx := context.Background()
	c, err := client.New(server, client.WithReadYourWrites())
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	ada, err := c.Open(ctx, client.OpenAccount{Owner: "Ada", Currency: "EUR"})
	if err != nil {
		log.Fatal(err)
	}
	results, err := c.RunAll(ctx, []client.Command{
		{Command: client.CommandDeposit, AccountID: ada.AccountID, Amount: "10"},
		{Command: client.CommandWithdraw, AccountID: ada.AccountID, Amount: "11"},
		{Command: client.CommandWithdraw, AccountID: ada.AccountID, Amount: "4", Reference: "lunch"},
	})
	if err != nil {
		log.Fatal(err)
	}
	for _, r := range results {
		if r.Problem != nil {
			fmt.Println(r.Status, r.Problem.Code)
			continue
		}
		fmt.Println(r.Status, r.Receipt.Type)
	}
	for t, err := range c.Statement(ctx, ada.AccountID, client.ListTransactionsParams{Sort: client.RecordedAt}) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(t.Kind, t.Amount, t.Balance)
	}
	// Output:
	// 201 MoneyDeposited
	// 422 insufficient-funds
	// 201 MoneyWithdrawn
	// deposit 10.00 10.00
	// withdrawal 4.00 6.00
}

// A hold reserves money until it is captured or released. A dry run shows what a command would do.
func ExampleClient_PlaceHold() {
	ctx := context.Background()
	c, err := client.New(server, client.WithReadYourWrites())
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	ada, err := c.Open(ctx, client.OpenAccount{Owner: "Ada", Currency: "EUR", InitialDeposit: "100"})
	if err != nil {
		log.Fatal(err)
	}
	hold, err := c.PlaceHold(ctx, ada.AccountID, client.PlaceHold{Amount: "60", Reference: "table for six"})
	if err != nil {
		log.Fatal(err)
	}
	balance, err := c.Balance(ctx, ada.AccountID)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(balance.Balance, balance.Held, balance.Available)
	capture := client.CaptureHold{Amount: "45.50", Reference: "dinner"}
	var would client.DryRunResult
	if _, err := c.CaptureHold(ctx, ada.AccountID, hold.HoldID, capture, client.DryRun(&would)); err != nil {
		log.Fatal(err)
	}
	fmt.Println("would leave", would.Balance)
	dinner, err := c.CaptureHold(ctx, ada.AccountID, hold.HoldID, capture)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(dinner.CapturedAmount, dinner.ReleasedAmount)
	if _, err := c.Reverse(ctx, client.Reverse{Position: dinner.Position, Amount: "5.50"}); err != nil {
		log.Fatal(err)
	}
	statement, err := c.AccountStatement(ctx, ada.AccountID, time.Time{}, time.Time{})
	if err != nil {
		log.Fatal(err)
	}
	for _, t := range statement.Transactions {
		fmt.Println(t.Kind, t.Amount, t.Balance)
	}
	// Output:
	// 100.00 60.00 40.00
	// would leave 54.50
	// 45.50 14.50
	// deposit 100.00 100.00
	// withdrawal 45.50 54.50
	// reversal_in 5.50 60.00
}

// A balance can be read as of any position or time.
func ExampleClient_BalanceAtPosition() {
	ctx := context.Background()
	c, err := client.New(server, client.WithReadYourWrites())
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	ada, err := c.Open(ctx, client.OpenAccount{Owner: "Ada", Currency: "JPY"})
	if err != nil {
		log.Fatal(err)
	}
	first, err := c.Deposit(ctx, client.MoneyMovement{AccountID: ada.AccountID, Amount: "100"})
	if err != nil {
		log.Fatal(err)
	}
	if _, err := c.Deposit(ctx, client.MoneyMovement{AccountID: ada.AccountID, Amount: "50"}); err != nil {
		log.Fatal(err)
	}
	then, err := c.BalanceAtPosition(ctx, ada.AccountID, first.Position)
	if err != nil {
		log.Fatal(err)
	}
	same, err := c.BalanceAt(ctx, ada.AccountID, first.RecordedAt)
	if err != nil {
		log.Fatal(err)
	}
	now, err := c.Balance(ctx, ada.AccountID)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(then.Balance, same.Balance, now.Balance)
	// Output: 100 100 150
}

// The log can be followed from any position. A caller that stores its position can resume there later.
func ExampleClient_Follow() {
	ctx := context.Background()
	c, err := client.New(server)
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	ada, err := c.Open(ctx, client.OpenAccount{Owner: "Ada", Currency: "EUR"})
	if err != nil {
		log.Fatal(err)
	}
	if _, err := c.Deposit(ctx, client.MoneyMovement{AccountID: ada.AccountID, Amount: "7.50", Reference: "gift"}); err != nil {
		log.Fatal(err)
	}
	for event, err := range c.Follow(ctx, 0, client.EventFilter{Account: ada.AccountID}) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(event.Version, event.Type)
		if event.Type == client.MoneyDeposited {
			var data client.MoneyData
			if err := json.Unmarshal(event.Data, &data); err != nil {
				log.Fatal(err)
			}
			fmt.Println(data.Amount, data.Currency, data.Reference)
			break // otherwise it would wait for more
		}
	}
	// Output:
	// 1 AccountCreated
	// 2 MoneyDeposited
	// 7.50 EUR gift
}

// A read model is rebuilt while it keeps serving.
func ExampleClient_FollowReplay() {
	ctx := context.Background()
	c, err := client.New(server)
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	replay, err := c.StartReplay(ctx, "totals")
	if err != nil {
		log.Fatal(err)
	}
	for r, err := range c.FollowReplay(ctx, replay.Projection, replay.ID) {
		if err != nil {
			log.Fatal(err)
		}
		*replay = r
	}
	fmt.Println(replay.State, replay.Processed == replay.Total)
	// Output: completed true
}
