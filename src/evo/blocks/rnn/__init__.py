"""Recurrent networks whose gates read their own last output: LSTM, sLSTM, GRU, Elman's network."""
