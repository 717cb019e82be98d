"""What becomes rows: from the values that a pickle holds to columns of equal length."""
