"""The one error that a reader of data raises."""

from crmlab.data.masking import mask


class DataError(ValueError):
    """The data cannot be used as they are; the message names file, row and column and says what to do.

    Parameters
    ----------
    message : str
        What is wrong and what to do about it, in words for the person who owns the file.
    faults : pandas.DataFrame, optional
        One row a fault (`row`, `column`, `value`, `problem`) when single cells are to blame.
    """

    def __init__(self, message, faults=None):
        super().__init__(mask(message))
        self.faults = faults
