package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"os"

	"github.com/verdict-pdp/verdict/client"
)

func newSealer() *client.Client {
	c, err := client.New(os.Getenv("VERDICT_URL"), client.Options{Timeout: patience, Token: client.StaticToken(os.Getenv("VERDICT_TOKEN"))})
	if err != nil {
		log.Fatal(err)
	}
	return c
}

func ExampleClient_Encrypt() {
	c := newSealer()
	defer c.Close()
	ctx := context.Background()
	card := client.SealContext{Tenant: "north", Type: "customer", ID: "c-1", Pointer: "/card"}
	text, err := c.Encrypt(ctx, client.Confidential, []byte("4111 1111"), card)
	if err != nil {
		log.Fatal(err)
	}
	value, err := c.Decrypt(ctx, text, card)
	fmt.Println(text[:4], string(value), err)

	card.Tenant = "south"
	_, err = c.Decrypt(ctx, text, card)
	var failed *client.Error
	fmt.Println(errors.As(err, &failed), failed.Code)
	// Output:
	// vd1. 4111 1111 <nil>
	// true ciphertext_invalid
}

func ExampleClient_Seal() {
	type card struct {
		Number string `json:"number" verdict:"restricted"`
		Brand  string `json:"brand"`
	}
	type customer struct {
		Name   string                `json:"name"`
		SSN    client.Secret[string] `json:"ssn" verdict:"restricted"`
		Income int                   `json:"income" verdict:"confidential"`
		Cards  []card                `json:"cards"`
	}
	c := newSealer()
	defer c.Close()
	ctx := context.Background()
	where := client.SealContext{Tenant: "north", Type: "customer", ID: "c-1"}
	ana := customer{Name: "Ana", SSN: client.NewSecret("123-45-6789"), Income: 52000, Cards: []card{{"4111", "visa"}}}
	document, err := c.Seal(ctx, ana, where)
	if err != nil {
		log.Fatal(err)
	}
	var stored map[string]any
	if err := json.Unmarshal(document, &stored); err != nil {
		log.Fatal(err)
	}
	fmt.Println(stored["name"], stored["income"].(string)[:4])

	var back customer
	if err := c.Open(ctx, document, &back, where); err != nil {
		log.Fatal(err)
	}
	fmt.Println(back.Income, back.Cards[0].Number, back.SSN, back.SSN.Reveal())
	// Output:
	// Ana vd1.
	// 52000 4111 [redacted] 123-45-6789
}

func ExampleSecret() {
	password := client.NewSecret("hunter2")
	encoded, _ := json.Marshal(map[string]any{"password": password})
	fmt.Printf("%v %q %s\n", password, password, encoded)
	fmt.Println(password.Reveal())
	// Output:
	// [redacted] [redacted] {"password":"[redacted]"}
	// hunter2
}
