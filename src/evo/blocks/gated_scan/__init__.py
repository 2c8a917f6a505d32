"""Recurrences channel by channel whose gates read the token alone: minGRU, minLSTM, HGRN, QRNN's pooling."""
